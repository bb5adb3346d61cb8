# Evaluates one of our modules with its stand-in, and fails with the messages of failed assertions, as home-manager and
# nix-darwin do. The packages that end up in plists have fixed paths, so that these are the same everywhere, and the
# configuration file is not made: its `value` is what would stand in it.
{ pkgs }:
let
  inherit (pkgs) lib;
  fixed = name: more: {
    type = "derivation";
    inherit name;
    outPath = "/nix/store/${name}";
    meta.mainProgram = name;
  } // more;
  fixedPkgs = pkgs // {
    uv = fixed "uv" { };
    formats.toml = _: { generate = name: value: fixed name { inherit value; }; };
    stdenv = pkgs.stdenv // {
      buildPlatform = pkgs.stdenv.buildPlatform // {
        canExecute = _: false;
      };
    };
  };
  # What home-manager adds to lib, as far as our module uses it.
  homeManagerLib = lib // {
    hm.dag.entryBetween = before: after: data: { inherit after before data; };
  };
  evaluate =
    specialArgs: modules:
    let
      inherit (lib.evalModules { inherit modules specialArgs; }) config;
      failed = builtins.filter (one: !one.assertion) config.assertions;
    in
    if failed == [ ] then
      config
    else
      throw "\nFailed assertions:\n${lib.concatMapStringsSep "\n" (one: "- ${one.message}") failed}";
  gateway.services.bifrost = {
    enable = true;
    package = fixed "bifrost" { };
  };
in
{
  homeManager =
    user:
    evaluate
      {
        pkgs = fixedPkgs;
        lib = homeManagerLib;
      }
      [
        ./home-manager.nix
        ../../modules/home-manager.nix
        { home.homeDirectory = if pkgs.stdenv.hostPlatform.isDarwin then "/Users/ada" else "/home/ada"; }
        gateway
        user
      ];
  nixDarwin =
    user:
    evaluate { pkgs = fixedPkgs; } [
      ./nix-darwin.nix
      ../../modules/nix-darwin.nix
      { system.primaryUser = "ada"; }
      gateway
      user
    ];
}
