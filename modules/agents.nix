# The two LaunchAgents, in one place: what launchd.plist(5) reads, before anything waits for the Nix store.
#
# The model server runs under `bifrost supervise`, which understands:
#   --config FILE             the gateway's configuration: local-only mode and the registry are read from it
#   --model MODEL             a model id or folder (with a slash), or a role of the registry (without), looked up at
#                             each start; an argument after `--` that is exactly `{model}` becomes what was found
#   --port PORT               where the server will listen on 127.0.0.1; taken by another program: say so and exit 0
#   --memory-reserve-gb N     GiB that must stay free: 1.3 times the model's size on disk has to fit into the rest
#   --log FILE                the server's output, rotated by size; launchd's own file gets the supervisor's
{
  lib,
  # services.bifrost
  cfg,
  # Where the gateway finds its configuration. The same path in all generations: a change is reloaded, not restarted.
  configPath,
  # The user's home folder: what `~` stands for.
  home,
}:
let
  mlx = cfg.vllm-mlx;
  expand = path: if lib.hasPrefix "~/" path then home + lib.removePrefix "~" path else path;
  logDir = expand cfg.logDir;
  bifrost = lib.getExe cfg.package;
  inherit (cfg.settings) server;

  # A change of address needs a new start, so it has to change the plist; what the default is need not stand there.
  address =
    lib.optionalAttrs (server.host != "localhost") {
      BIFROST_HOST = lib.concatStringsSep "," (lib.toList server.host);
    }
    // lib.optionalAttrs (server.port != 30080) { BIFROST_PORT = toString server.port; };
  withEnvironment =
    variables: lib.optionalAttrs (variables != { }) { EnvironmentVariables = variables; };

  job = {
    RunAtLoad = true;
    # Bifrost exits 0 when it is told to stop, so `launchctl stop` sticks and a crash does not.
    KeepAlive.SuccessfulExit = false;
    # Background would slow Metal down several times.
    ProcessType = "Interactive";
  };
  logTo = file: {
    StandardOutPath = "${logDir}/${file}";
    StandardErrorPath = "${logDir}/${file}";
  };
in
{
  inherit logDir;

  gateway =
    job
    // logTo "gateway.log"
    // withEnvironment address
    // {
      Label = "dev.bifrost.gateway";
      ProgramArguments = [
        bifrost
        "serve"
        "--config"
        configPath
      ]
      ++ lib.optionals (cfg.environmentFile != null) [
        "--env-file"
        (expand cfg.environmentFile)
      ]
      ++ cfg.extraArgs;
      ThrottleInterval = 10;
      ExitTimeOut = 20;
    };

  vllm-mlx =
    job
    // logTo "vllm-mlx.supervise.log"
    // withEnvironment (
      lib.optionalAttrs (mlx.huggingFaceHome != null) { HF_HOME = expand mlx.huggingFaceHome; }
    )
    // {
      Label = "dev.bifrost.vllm-mlx";
      ProgramArguments = [
        bifrost
        "supervise"
        "--config"
        configPath
        "--model"
        (expand mlx.model)
        "--port"
        (toString mlx.port)
        "--memory-reserve-gb"
        (toString mlx.memoryReserveGb)
        "--log"
        "${logDir}/vllm-mlx.log"
        "--"
      ]
      ++ mlx.command
      ++ [
        "serve"
        "{model}"
        "--host"
        "127.0.0.1"
        "--port"
        (toString mlx.port)
        "--continuous-batching"
        "--max-num-seqs"
        "4"
      ]
      ++ mlx.extraArgs;
      # A model takes minutes to load: starting it again at once would help nobody.
      ThrottleInterval = 60;
      # launchd allows agents no more.
      ExitTimeOut = 60;
    };
}
