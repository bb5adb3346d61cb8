# The names of all options, sorted, for the comparison with docs/NIX.md.
{ pkgs }:
let
  inherit ((import ./evaluate.nix { inherit pkgs; }).nixDarwin (import ./cases.nix).small) services;
  inherit (pkgs) lib;
in
lib.subtractLists [ "vllm-mlx" ] (lib.attrNames services.bifrost)
++ map (name: "vllm-mlx.${name}") (lib.attrNames services.bifrost.vllm-mlx)
