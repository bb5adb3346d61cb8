# Stands in for nix-darwin: the options that modules/nix-darwin.nix sets, and plists made as nix-darwin makes them
# (modules/launchd/default.nix of nix-darwin-26.05), which changes nothing about `serviceConfig`.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  anything = mkOption {
    type = types.attrsOf types.raw;
    default = { };
  };
in
{
  options = {
    assertions = mkOption {
      type = types.listOf types.raw;
      default = [ ];
    };
    system = {
      primaryUser = mkOption { type = types.nullOr types.str; };
      activationScripts.extraActivation.text = mkOption {
        type = types.lines;
        default = "";
      };
    };
    users.users = anything;
    environment = {
      systemPackages = mkOption {
        type = types.listOf types.package;
        default = [ ];
      };
      etc = anything;
      variables = anything;
    };
    launchd.user.agents = mkOption {
      default = { };
      type = types.attrsOf (types.submodule { options.serviceConfig = anything; });
    };
    # What launchd would read, by label.
    plists = mkOption {
      type = types.attrsOf types.str;
      default = lib.mapAttrs' (
        _: agent:
        lib.nameValuePair agent.serviceConfig.Label (
          lib.generators.toPlist { escape = true; } agent.serviceConfig
        )
      ) config.launchd.user.agents;
    };
  };
}
