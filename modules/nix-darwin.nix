# services.bifrost for nix-darwin: LaunchAgents of the primary user.
{ config, lib, ... }:
let
  cfg = config.services.bifrost;
  user = config.system.primaryUser;
  declared = config.users.users.${user}.home or null;
  home = if declared != null then toString declared else "/Users/${user}";
  # The gateway's, and the command line's by BIFROST_CONFIG.
  configPath = "/etc/bifrost/config.toml";
  agents = import ./agents.nix {
    inherit
      cfg
      configPath
      home
      lib
      ;
  };
  # nix-darwin does this only for its `command` and `script`: at login the store may not be mounted yet.
  afterStore =
    agent:
    agent
    // {
      ProgramArguments = [
        "/bin/sh"
        "-c"
        "/bin/wait4path /nix/store && exec ${lib.escapeShellArgs agent.ProgramArguments}"
      ];
    };
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable {
    services.bifrost.logDir = lib.mkDefault "${home}/Library/Logs/bifrost";

    environment = {
      systemPackages = [ cfg.package ];
      etc."bifrost/config.toml".source = cfg.configFile;
      variables.BIFROST_CONFIG = configPath;
    };

    launchd.user.agents.bifrost.serviceConfig = afterStore agents.gateway;
    launchd.user.agents.bifrost-vllm-mlx = lib.mkIf cfg.vllm-mlx.enable {
      serviceConfig = afterStore agents.vllm-mlx;
    };

    # Activation runs as root, and launchd does not make the folder of a log.
    system.activationScripts.extraActivation.text = ''
      sudo --user=${lib.escapeShellArg user} -- mkdir -p ${lib.escapeShellArg agents.logDir}
    '';
  };
}
