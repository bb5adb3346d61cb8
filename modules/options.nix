# The options of `services.bifrost` and what they refuse, the same for home-manager and nix-darwin.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) literalExpression mkOption types;
  inherit (pkgs.stdenv) buildPlatform hostPlatform;
  cfg = config.services.bifrost;
  mlx = cfg.vllm-mlx;
  secrets = import ./secrets.nix { inherit lib; };

  # TOML without its dates, and null for "leave it out". No Nix paths: those would be copied into the store.
  tomlValue =
    types.nullOr (
      types.oneOf [
        types.bool
        types.int
        types.float
        types.str
        (types.attrsOf tomlValue)
        (types.listOf tomlValue)
      ]
    )
    // {
      description = "TOML value or null";
    };
  withoutNulls =
    value:
    if builtins.isAttrs value then
      lib.mapAttrs (_: withoutNulls) (lib.filterAttrs (_: inner: inner != null) value)
    else if builtins.isList value then
      map withoutNulls (builtins.filter (inner: inner != null) value)
    else
      value;

  toml = (pkgs.formats.toml { }).generate "bifrost.toml" (withoutNulls cfg.settings);
  checkedToml = pkgs.runCommand "bifrost.toml" { } ''
    ${lib.getExe cfg.package} config check --offline --config ${toml}
    cp ${toml} $out
  '';

  # A model id names its owner or folder (`mlx-community/Qwen3-8B-4bit`); a role has no slash.
  isRole = model: !lib.hasInfix "/" model;
  isOutsideStore = path: !lib.hasInfix builtins.storeDir path;
  isAbsolute = path: lib.hasPrefix "/" path || lib.hasPrefix "~/" path;
  # The default port of the provider `mlx-local`.
  usualMlxPort = 11434;
  serverPort = cfg.settings.server.port;
in
{
  options.services.bifrost = {
    enable = lib.mkEnableOption "Bifrost, the AI gateway";

    package = mkOption {
      type = types.package;
      default = pkgs.callPackage ../nix/package.nix { };
      defaultText = literalExpression "Bifrost, built with your nixpkgs";
      example = literalExpression "inputs.bifrost.packages.\${pkgs.stdenv.hostPlatform.system}.default";
      description = "The package of the gateway.";
    };

    host = mkOption {
      type = types.either types.str (types.listOf types.str);
      default = "localhost";
      example = [
        "localhost"
        "192.168.64.1"
      ];
      description = ''
        Addresses to listen on, without port. `localhost` is both loopback addresses; any other needs
        `settings.server.api_keys`. Becomes `settings.server.host`, which wins if you set it too.
      '';
    };

    port = mkOption {
      type = types.port;
      default = 30080;
      description = "Port to listen on. Becomes `settings.server.port`, which wins if you set it too.";
    };

    localOnlyMode = mkOption {
      type = types.bool;
      default = false;
      description = ''
        Nothing leaves this machine: every request goes to the local model server, and fails when that is down.
        What is declared here cannot be switched off at run time.
      '';
    };

    logDir = mkOption {
      type = types.str;
      defaultText = literalExpression ''"\''${home}/Library/Logs/bifrost"'';
      description = "Folder of the agents' logs on macOS; made when missing. On Linux the journal has the log.";
    };

    settings = mkOption {
      type = types.attrsOf tomlValue;
      default = { };
      example = {
        providers.openai.key = "keychain:openai";
        providers.anthropic.key = [
          "env:ANTHROPIC_API_KEY"
          "cmd:op read 'op://Private/Anthropic/key'"
        ];
        classes.review.select = [ { model = "anthropic/claude-sonnet-4-5"; } ];
      };
      description = ''
        Everything else of `bifrost.toml`, key by key; `bifrost config schema` lists the keys. `null` leaves a key out.
        The file is checked by `bifrost config check` when it is built, where the building machine can run the
        package. Keys of providers are references (`env:`, `file:`, `keychain:`, `cmd:`); the key itself is refused,
        because everybody can read the Nix store.
      '';
    };

    environmentFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "~/.config/bifrost/keys.env";
      description = ''
        A file of `NAME=value` lines that `env:` references may name, read by the gateway when it starts
        (`bifrost serve --env-file`). A string, so that it never gets into the Nix store; keep it at mode 0600.
      '';
    };

    registryFile = mkOption {
      type = types.nullOr types.str;
      default = null;
      example = "~/.config/ai-stack/registry.json";
      description = "A JSON file of role names and model ids, read at run time. Becomes `settings.registry`.";
    };

    extraArgs = mkOption {
      type = types.listOf types.str;
      default = [ ];
      example = [ "--local" ];
      description = "More arguments for `bifrost serve`.";
    };

    configFile = mkOption {
      type = types.package;
      readOnly = true;
      default = if buildPlatform.canExecute hostPlatform then checkedToml else toml;
      defaultText = literalExpression "the TOML of `settings`, checked";
      description = "The file that is made of `settings`.";
    };

    vllm-mlx = {
      enable = mkOption {
        type = types.bool;
        default = cfg.enable && hostPlatform.isDarwin;
        defaultText = literalExpression "config.services.bifrost.enable && pkgs.stdenv.hostPlatform.isDarwin";
        description = "Run vllm-mlx, the local model server. `false` leaves a server of somebody else's alone.";
      };

      package = mkOption {
        type = types.nullOr types.package;
        default = null;
        description = "A package whose main program is vllm-mlx. nixpkgs has none that uses the GPU.";
      };

      command = mkOption {
        type = types.nonEmptyListOf types.str;
        default =
          if mlx.package != null then
            [ (lib.getExe mlx.package) ]
          else
            [
              (lib.getExe' pkgs.uv "uvx")
              "--from"
              "vllm-mlx==0.6.0"
              "vllm-mlx"
            ];
        defaultText = literalExpression "the main program of `package`, else `uvx --from vllm-mlx==0.6.0 vllm-mlx`";
        example = [ "/opt/homebrew/bin/vllm-mlx" ];
        description = ''
          The program and what stands before `serve`. Launchd has a short PATH: give absolute paths.
          With the default, the first start downloads vllm-mlx from PyPI.
        '';
      };

      model = mkOption {
        type = types.str;
        default = "default";
        example = "mlx-community/Qwen3-8B-4bit";
        description = ''
          The model to serve: a Hugging Face id or a folder (with a slash), or a role (without), which is looked up in
          `registryFile` each time the server starts.
        '';
      };

      extraArgs = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [
          "--enable-auto-tool-choice"
          "--tool-call-parser"
          "hermes"
        ];
        description = "More arguments for `vllm-mlx serve`.";
      };

      huggingFaceHome = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "/Volumes/HuggingFace";
        description = "Folder of downloaded models (`HF_HOME`). `null` is `~/.cache/huggingface`.";
      };

      port = mkOption {
        type = types.port;
        default = usualMlxPort;
        description = "Port of vllm-mlx on 127.0.0.1; the provider `mlx-local` follows it.";
      };

      memoryReserveGb = mkOption {
        type = types.ints.unsigned;
        default = 8;
        description = ''
          Memory that is left to everything else, in GiB: a model is not loaded if 1.3 times its size on disk does not
          fit into the rest.
        '';
      };

      keepWarm = mkOption {
        type = types.nullOr types.str;
        default = null;
        example = "4m";
        description = ''
          Ask for one token each time so much time has passed without a request, so that macOS does not compress the
          model's memory. Becomes `settings.local.keep_warm`; `null` never asks.
        '';
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.bifrost.settings = {
      # At normal priority: a `false` in settings beside it is a conflict and cannot win.
      localOnlyMode = lib.mkIf cfg.localOnlyMode true;
      registry = lib.mkIf (cfg.registryFile != null) (lib.mkDefault cfg.registryFile);
      server = {
        host = lib.mkDefault cfg.host;
        port = lib.mkDefault cfg.port;
      };
      local = lib.mkIf (mlx.keepWarm != null) { keep_warm = lib.mkDefault mlx.keepWarm; };
      providers = lib.mkIf (mlx.enable && mlx.port != usualMlxPort) {
        mlx-local.base_url = lib.mkDefault "http://127.0.0.1:${toString mlx.port}/v1";
      };
    };

    assertions =
      map (place: {
        assertion = false;
        message = ''
          services.bifrost.settings.${place} must say where the key is, and not hold the key or a file of the Nix
          store: everybody can read the store. Write one of
            "env:OPENAI_API_KEY"    a variable, set in the file that services.bifrost.environmentFile names
            "file:~/.keys/openai"   a file with nothing else in it
            "keychain:openai"       the password of that name in the macOS keychain
            "cmd:/opt/homebrew/bin/op read 'op://Private/OpenAI/key'"   what a program prints
          If the key was real, replace it: it may have been committed or copied already.'';
      }) (secrets.misplaced cfg.settings)
      ++ [
        {
          assertion =
            cfg.environmentFile == null
            || (isAbsolute cfg.environmentFile && isOutsideStore cfg.environmentFile);
          message = ''
            services.bifrost.environmentFile must be a string with an absolute path (or one that begins with ~/) outside
            the Nix store, such as "~/.config/bifrost/keys.env": everybody can read the store.'';
        }
        {
          assertion = cfg.registryFile == null || isAbsolute cfg.registryFile;
          message = ''
            services.bifrost.registryFile must be an absolute path or begin with ~/, such as
            "~/.config/ai-stack/registry.json".'';
        }
        {
          assertion = mlx.enable -> hostPlatform.isDarwin;
          message = ''
            services.bifrost.vllm-mlx.enable: vllm-mlx runs on macOS only, and this is ${hostPlatform.system}. Leave the
            option out; the gateway itself runs here.'';
        }
        {
          assertion = mlx.enable -> (!isRole mlx.model || cfg.settings.registry or null != null);
          message = ''
            services.bifrost.vllm-mlx.model is "${mlx.model}", which is the name of a role, and there is no registry to
            look it up in. Write one of
              services.bifrost.vllm-mlx.model = "mlx-community/Qwen3-8B-4bit";   the id of a model
              services.bifrost.registryFile = "~/.config/ai-stack/registry.json";   a JSON file of roles and models
              services.bifrost.vllm-mlx.enable = false;   no model server of Bifrost's'';
        }
        {
          assertion = mlx.enable -> serverPort != mlx.port;
          message = ''
            services.bifrost.port and services.bifrost.vllm-mlx.port are both ${toString serverPort}; only one program
            can listen there. The usual ones are 30080 and ${toString usualMlxPort}.'';
        }
      ];
  };
}
