# The checks of the flake: what the modules make of cases.nix must be what stands in golden/.
{ pkgs }:
let
  inherit (pkgs) lib;
  cases = import ./cases.nix;
  evaluate = import ./evaluate.nix { inherit pkgs; };

  plists = lib.mapAttrs' (
    label: text: lib.nameValuePair "${label}.plist" (pkgs.writeText "${label}.plist" text)
  );

  # A unit as systemd reads it: a list is a key that stands there several times.
  unit =
    sections:
    lib.concatStringsSep "\n" (
      lib.mapAttrsToList (
        section: keys:
        "[${section}]\n"
        + lib.concatStrings (
          lib.concatLists (
            lib.mapAttrsToList (key: value: map (one: "${key}=${toString one}\n") (lib.toList value)) keys
          )
        )
      ) sections
    );

  # Compares `files CONFIG`, a set of file names and files, with golden/FOLDER/CASE, and the settings with its
  # config.toml: as values, because the text of TOML is the affair of the nixpkgs in use. `made` can become the next
  # golden folder.
  golden =
    folder: evaluated: files:
    let
      configs = lib.mapAttrs (_: evaluated) cases;
      tree =
        files:
        lib.concatStrings (
          lib.mapAttrsToList (
            case: made:
            "mkdir -p $out/${case}\n"
            + lib.concatStrings (
              lib.mapAttrsToList (name: file: "cp ${file} $out/${case}/${name}\n") made
            )
          ) files
        );
      texts = lib.mapAttrs (_: files) configs;
      values = lib.mapAttrs (_: config: config.services.bifrost.configFile.value) configs;
      json = case: value: pkgs.writeText "${case}.json" (builtins.toJSON value);
      made = pkgs.runCommand "bifrost-${folder}" { } (
        tree (
          lib.mapAttrs (
            case: files:
            files // { "config.toml" = (pkgs.formats.toml { }).generate "config.toml" values.${case}; }
          ) texts
        )
      );
      here = ./golden + "/${folder}";
    in
    pkgs.runCommand "bifrost-golden-${folder}" { } (
      tree texts
      + "diff -ru --exclude config.toml ${here} $out\n"
      + lib.concatStrings (
        lib.mapAttrsToList (
          case: value:
          "diff -u ${json case (lib.importTOML (here + "/${case}/config.toml"))} ${json case value}\n"
        ) values
      )
    )
    // {
      inherit made;
    };

  launchd = config: plists config.plists;
in
if pkgs.stdenv.hostPlatform.isDarwin then
  {
    home-manager = golden "home-manager" evaluate.homeManager launchd;
    nix-darwin = golden "nix-darwin" evaluate.nixDarwin launchd;
  }
else
  {
    home-manager = golden "systemd" evaluate.homeManager (config: {
      "bifrost.service" = pkgs.writeText "bifrost.service" (unit config.systemd.user.services.bifrost);
    });
  }
