# services.bifrost for home-manager: LaunchAgents on macOS, a systemd user service on Linux.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.bifrost;
  inherit (pkgs.stdenv.hostPlatform) isDarwin isLinux;
  agents = import ./agents.nix {
    inherit cfg lib;
    configPath = "${config.xdg.configHome}/bifrost/config.toml";
    home = config.home.homeDirectory;
  };

  # systemd's quotes; `%` stands for something everywhere, `$` in command lines only.
  quoted = text: lib.replaceStrings [ "%" ] [ "%%" ] (builtins.toJSON text);
  word = text: lib.replaceStrings [ "$" ] [ "$$" ] (quoted text);
  environment = agents.gateway.EnvironmentVariables or { };
in
{
  imports = [ ./options.nix ];

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      {
        services.bifrost.logDir = lib.mkDefault "${config.home.homeDirectory}/Library/Logs/bifrost";
        home.packages = [ cfg.package ];
        xdg.configFile."bifrost/config.toml".source = cfg.configFile;
      }

      (lib.mkIf isDarwin {
        # Never `launchd.agents.vllm-mlx`: other modules have an agent of that name.
        launchd.agents.bifrost = {
          enable = true;
          config = agents.gateway;
        };
        launchd.agents.bifrost-vllm-mlx = lib.mkIf cfg.vllm-mlx.enable {
          enable = true;
          config = agents.vllm-mlx;
        };
        # launchd does not make the folder of a log, and the gateway looks for its file when it starts.
        home.activation.bifrostLogDir =
          lib.hm.dag.entryBetween [ "setupLaunchAgents" ] [ "linkGeneration" ]
            ''
              run mkdir -p ${lib.escapeShellArg agents.logDir}
            '';
      })

      (lib.mkIf isLinux {
        systemd.user.services.bifrost = {
          Unit.Description = "Bifrost, the AI gateway";
          Service = {
            ExecStart = lib.concatMapStringsSep " " word agents.gateway.ProgramArguments;
            Environment = lib.mapAttrsToList (name: value: quoted "${name}=${value}") environment;
            Restart = "on-failure";
            RestartSec = agents.gateway.ThrottleInterval;
            TimeoutStopSec = agents.gateway.ExitTimeOut;
          };
          Install.WantedBy = [ "default.target" ];
        };
      })
    ]
  );
}
