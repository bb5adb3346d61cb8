# Configurations that must be refused, and what the message must say. `never` is what it must not say.
[
  {
    config.port = 70000;
    says = [
      "services.bifrost.port"
      "70000"
      "65535"
    ];
  }
  {
    config.prot = 30080;
    says = [ "services.bifrost.prot' does not exist" ];
  }
  {
    config.vllm-mlx.modle = "x/y";
    says = [ "services.bifrost.vllm-mlx.modle' does not exist" ];
  }
  {
    config.settings.providers.openai.key = "sk-proj-abcdefghijklmnop";
    says = [
      "services.bifrost.settings.providers.openai.key must say where the key is"
      "env:OPENAI_API_KEY"
    ];
    never = "abcdefghijklmnop";
  }
  {
    config.settings.providers.openai.key = [
      "env:OPENAI_API_KEY"
      "abcdefghijklmnop"
    ];
    says = [ "services.bifrost.settings.providers.openai.key must say where the key is" ];
    never = "abcdefghijklmnop";
  }
  {
    config.settings.providers.mine.headers.Authorization = "Bearer abcdefghijklmnop";
    says = [ "services.bifrost.settings.providers.mine.headers.Authorization must say where" ];
    never = "abcdefghijklmnop";
  }
  {
    config.settings.server.api_keys = [ "abcdefghijklmnop" ];
    says = [ "services.bifrost.settings.server.api_keys must say where the key is" ];
    never = "abcdefghijklmnop";
  }
  {
    config.settings.providers.openai.key = "file:${builtins.storeDir}/openai";
    says = [ "services.bifrost.settings.providers.openai.key must say where the key is" ];
  }
  {
    config.environmentFile = "${builtins.storeDir}/keys.env";
    says = [
      "services.bifrost.environmentFile must be a string with an absolute path"
      "outside the Nix store"
    ];
  }
  {
    config.environmentFile = "keys.env";
    says = [ "services.bifrost.environmentFile must be a string with an absolute path" ];
  }
  {
    config.registryFile = null;
    says = [
      "services.bifrost.vllm-mlx.model is \"default\""
      "services.bifrost.vllm-mlx.model = \"mlx-community/Qwen3-8B-4bit\""
      "services.bifrost.registryFile ="
    ];
  }
  {
    config.vllm-mlx.port = 30080;
    says = [ "services.bifrost.port and services.bifrost.vllm-mlx.port are both 30080" ];
  }
  {
    config = {
      localOnlyMode = true;
      settings.localOnlyMode = false;
    };
    says = [
      "services.bifrost.settings.localOnlyMode"
      "conflicting definition values"
    ];
  }
  {
    system = "x86_64-linux";
    config.vllm-mlx.enable = true;
    says = [ "vllm-mlx runs on macOS only, and this is x86_64-linux" ];
  }
]
