# Evaluates configuration number `at` of refusals.nix as far as a plist, which must fail.
{ legacyPackages, at }:
let
  case = builtins.elemAt (import ./refusals.nix) at;
  pkgs = legacyPackages.${case.system or "aarch64-darwin"};
  config = (import ./evaluate.nix { inherit pkgs; }).homeManager {
    imports = [ { services.bifrost.registryFile = pkgs.lib.mkDefault "~/registry.json"; } ];
    config.services.bifrost = case.config;
  };
in
builtins.deepSeq [
  config.plists
  config.systemd.user.services
  config.services.bifrost.configFile.value
] "accepted"
