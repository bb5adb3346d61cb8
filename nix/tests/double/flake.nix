{
  # nix/tests/check puts a copy of this folder, with a host.nix that says where cargo is, in the place of nixpkgs.
  description = "Stands in for nixpkgs where it cannot be fetched: what Bifrost's flake uses of it, and no more";

  outputs =
    _:
    let
      lib = import ./lib.nix;
      host = import ./host.nix;
    in
    {
      inherit lib;
      legacyPackages = lib.genAttrs [
        "aarch64-darwin"
        "x86_64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ] (system: import ./packages.nix { inherit host lib system; });
    };
}
