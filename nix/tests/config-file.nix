# The configuration file that the home-manager module makes of `settings`, with the real package: it runs
# `bifrost config check` where this machine can run the package.
{ pkgs, settings }:
(pkgs.lib.evalModules {
  specialArgs = { inherit pkgs; };
  modules = [
    ./home-manager.nix
    ../../modules/home-manager.nix
    {
      home.homeDirectory = "/home/ada";
      services.bifrost = {
        enable = true;
        inherit settings;
      };
    }
  ];
}).config.services.bifrost.configFile
