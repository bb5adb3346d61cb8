# The packages. Texts and scripts are built by this machine for every system; programs only for its own.
{
  host,
  lib,
  system,
}:
let
  platform =
    name:
    let
      parts = builtins.match "([a-z0-9_]+)-(darwin|linux)" name;
    in
    {
      system = name;
      isDarwin = lib.elemAt parts 1 == "darwin";
      isLinux = lib.elemAt parts 1 == "linux";
      canExecute = other: other.system == name;
    };

  # A derivation whose `script` bash runs; everything else is an attribute of it, and so in its environment.
  build =
    {
      system ? host.system,
      ...
    }@args:
    derivation (
      removeAttrs args [ "meta" ]
      // {
        inherit system;
        builder = host.bash;
        args = [
          "-euo"
          "pipefail"
          "-c"
          ''
            export PATH=${lib.escapeShellArg host.path}
            . "$scriptPath"
          ''
        ];
        passAsFile = [ "script" ] ++ args.passAsFile or [ ];
      }
    )
    // {
      meta = args.meta or { };
    };

  runCommand =
    name: attrs: script:
    build (attrs // { inherit name script; });

  # A program that only has to be there when something is evaluated.
  program =
    name:
    build {
      inherit name system;
      script = "echo 'nixpkgs is needed for ${name}' >&2; exit 1";
      meta.mainProgram = name;
    };
in
lib.genAttrs [
  "cargo-deny"
  "cargo-insta"
  "clippy"
  "nixfmt"
  "nixfmt-tree"
  "rust-analyzer"
  "rustfmt"
  "uv"
] program
// rec {
  inherit lib runCommand;

  stdenv = {
    hostPlatform = platform system;
    buildPlatform = platform host.system;
  };

  callPackage =
    path: more:
    let
      make = import path;
      wanted = builtins.functionArgs make;
      found = builtins.intersectAttrs wanted (
        {
          inherit
            installShellFiles
            lib
            rustPlatform
            stdenv
            ;
        }
        // more
      );
    in
    make found;

  writeText =
    name: text:
    build {
      inherit name text;
      passAsFile = [ "text" ];
      script = "cp \"$textPath\" $out";
    };

  formats.toml = _: {
    generate =
      name: value:
      build {
        inherit name;
        value = builtins.toJSON value;
        passAsFile = [ "value" ];
        script = "python3 ${./toml.py} < \"$valuePath\" > $out";
      };
  };

  # As the real one, refuses a file that is not there or empty.
  installShellFiles = builtins.toFile "install-shell-files" ''
    installShellCompletion() {
      [ "$1" = --cmd ] || { echo "installShellCompletion: --cmd comes first" >&2; return 1; }
      local name=$2 path
      shift 2
      while [ $# -gt 0 ]; do
        [ -s "$2" ] || { echo "installShellCompletion: $2 is missing or empty" >&2; return 1; }
        case $1 in
          --bash) path=share/bash-completion/completions/$name.bash ;;
          --fish) path=share/fish/vendor_completions.d/$name.fish ;;
          --zsh) path=share/zsh/site-functions/_$name ;;
          *) echo "installShellCompletion: what is $1?" >&2; return 1 ;;
        esac
        install -D -m 444 "$2" "$out/$path"
        shift 2
      done
    }
  '';

  rustPlatform = {
    rustLibSrc = program "rust-lib-src";

    # Really builds, by this machine's cargo and with what it has downloaded already.
    buildRustPackage =
      {
        pname,
        version,
        src,
        cargoLock,
        meta,
        nativeBuildInputs ? [ ],
        postInstall ? "",
        # Tests are not run here.
        doCheck ? true,
      }:
      assert lib.assertMsg (!doCheck) "this double runs no tests: doCheck has to be false";
      build {
        name = "${pname}-${version}";
        inherit
          meta
          postInstall
          src
          system
          ;
        lockFile = cargoLock.lockFile;
        script = ''
          cp -r --no-preserve=mode "$src" source
          cd source
          cmp Cargo.lock "$lockFile"
          export HOME=$PWD/.. CARGO_HOME=${lib.escapeShellArg host.cargoHome}
          export RUSTUP_HOME=${lib.escapeShellArg host.rustupHome}
          export CARGO_TARGET_DIR=${lib.escapeShellArg host.targetDir}
          # The release profile of Cargo.toml costs minutes and proves nothing here.
          export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_OPT_LEVEL=0
          export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
          cargo build --release --locked --offline
          find "$CARGO_TARGET_DIR/release" -maxdepth 1 -type f -executable \
            -exec install -D -t $out/bin {} +
          ${lib.concatMapStringsSep "\n" (input: ". ${input}") nativeBuildInputs}
          eval "$postInstall"
        '';
      };
  };

  mkShell =
    { env, inputsFrom, packages }:
    build {
      name = "nix-shell";
      inherit system;
      script = "touch $out";
      inputs = inputsFrom ++ packages ++ lib.attrValues env;
    };
}
