# The package. `cargoLock.lockFile` needs no hash, so a changed Cargo.lock needs no change here.
{
  lib,
  stdenv,
  rustPlatform,
  installShellFiles,
}:
let
  manifest = (lib.importTOML ../Cargo.toml).package;
in
rustPlatform.buildRustPackage {
  pname = manifest.name;
  inherit (manifest) version;

  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../Cargo.toml
      ../Cargo.lock
      ../src
      # Cargo.toml names them, and cargo reads no manifest whose targets are missing.
      (lib.fileset.maybeMissing ../benches)
    ];
  };
  cargoLock.lockFile = ../Cargo.lock;

  nativeBuildInputs = [ installShellFiles ];

  # The tests listen on ports and read recordings that are not part of the source.
  doCheck = false;

  # Only a program that runs on the machine that builds it can print its completions.
  postInstall = lib.optionalString (stdenv.buildPlatform.canExecute stdenv.hostPlatform) ''
    for shell in bash fish zsh; do
      $out/bin/bifrost completions $shell > completions.$shell
      installShellCompletion --cmd bifrost --$shell completions.$shell
    done
  '';

  meta = {
    inherit (manifest) description;
    license = [
      lib.licenses.mit
      lib.licenses.asl20
    ];
    mainProgram = "bifrost";
    platforms = lib.platforms.unix;
  };
}
