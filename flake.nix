{
  description = "Bifrost, the AI gateway for a developer's Mac";

  # The last release for Intel Macs; its rustc is newer than rust-version in Cargo.toml.
  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixpkgs-26.05-darwin";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [
        "aarch64-darwin"
        "x86_64-darwin"
        "aarch64-linux"
        "x86_64-linux"
      ];
      eachSystem = make: lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
      ours = pkgs: self.packages.${pkgs.stdenv.hostPlatform.system};
      modules = name: rec {
        bifrost = ./modules + "/${name}.nix";
        default = bifrost;
      };
    in
    {
      packages = eachSystem (pkgs: rec {
        bifrost = pkgs.callPackage ./nix/package.nix { };
        default = bifrost;
      });

      overlays.default = final: _: { bifrost = final.callPackage ./nix/package.nix { }; };

      apps = eachSystem (pkgs: rec {
        bifrost = {
          type = "app";
          program = lib.getExe (ours pkgs).bifrost;
          meta.description = "The gateway and its command line";
        };
        default = bifrost;
      });

      homeModules = modules "home-manager";
      # The name that home-manager itself used before.
      homeManagerModules = self.homeModules;
      darwinModules = modules "nix-darwin";

      devShells = eachSystem (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ (ours pkgs).bifrost ];
          packages = [
            pkgs.cargo-deny
            pkgs.cargo-insta
            pkgs.clippy
            pkgs.nixfmt
            pkgs.rust-analyzer
            pkgs.rustfmt
          ];
          env.RUST_SRC_PATH = pkgs.rustPlatform.rustLibSrc;
        };
      });

      formatter = eachSystem (pkgs: pkgs.nixfmt-tree);

      checks = eachSystem (
        pkgs:
        import ./nix/tests { inherit pkgs; } // { package = (ours pkgs).bifrost; }
      );
    };
}
