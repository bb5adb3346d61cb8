# Stands in for home-manager: the options that modules/home-manager.nix sets, and plists made as home-manager makes them
# (modules/launchd/default.nix of release-26.05). Unlike there, a key that launchd.plist(5) does not know is refused.
{
  config,
  lib,
  ...
}:
let
  inherit (lib) mkOption types;
  anything = mkOption {
    type = types.attrsOf types.raw;
    default = { };
  };
  launchdKeys = [
    "EnvironmentVariables"
    "ExitTimeOut"
    "KeepAlive"
    "Label"
    "ProcessType"
    "ProgramArguments"
    "RunAtLoad"
    "StandardErrorPath"
    "StandardOutPath"
    "ThrottleInterval"
  ];
  plist =
    agent:
    let
      unknown = lib.subtractLists launchdKeys (lib.attrNames agent.config);
    in
    assert lib.assertMsg (unknown == [ ]) "launchd keys that are not known here: ${toString unknown}";
    lib.generators.toPlist { escape = true; } (
      agent.config
      // {
        ProgramArguments = [
          "/bin/sh"
          "-c"
          "/bin/wait4path /nix/store && exec ${lib.escapeShellArgs agent.config.ProgramArguments}"
        ];
      }
    );
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.raw;
      default = [ ];
    };
    home = {
      homeDirectory = mkOption { type = types.str; };
      packages = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
      activation = anything;
    };
    xdg = {
      configFile = anything;
      configHome = mkOption {
        type = types.str;
        default = "${config.home.homeDirectory}/.config";
      };
    };
    launchd.agents = mkOption {
      default = { };
      type = types.attrsOf (
        types.submodule {
          options = {
            enable = lib.mkEnableOption "this agent";
            config = anything;
          };
        }
      );
    };
    systemd.user.services = anything;
    # What launchd would read, by label.
    plists = mkOption {
      type = types.attrsOf types.str;
      default = lib.mapAttrs' (_: agent: lib.nameValuePair agent.config.Label (plist agent)) (
        lib.filterAttrs (_: agent: agent.enable) config.launchd.agents
      );
    };
  };
}
