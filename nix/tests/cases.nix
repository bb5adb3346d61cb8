# Configurations of users whose results stand in golden/.
{
  # The least that a Mac needs.
  small.services.bifrost.registryFile = "~/.config/ai-stack/registry.json";

  # Most options, with values that need quoting.
  full.services.bifrost = {
    host = [
      "localhost"
      "192.168.64.1"
    ];
    port = 30081;
    localOnlyMode = true;
    logDir = "~/Library/Logs/AI & <more>";
    environmentFile = "~/.config/bifrost/Ada's keys.env";
    extraArgs = [ "--local" ];
    settings = {
      server.api_keys = [ "keychain:bifrost/ada" ];
      providers = {
        openai = {
          key = "env:OPENAI_API_KEY";
          # Names that look a little like those of keys.
          token_limit = "max_tokens";
          deadlines.first_token = "30s";
        };
        anthropic.key = [
          "cmd:/opt/homebrew/bin/op read 'op://Private/Anthropic/key'"
          "file:~/.keys/anthropic"
        ];
        gemini.key = null;
        openrouter.headers.X-Title = "Ada's \"lab\"";
      };
      auto.rules = [
        {
          class = "coding";
          label = null;
        }
      ];
    };
    vllm-mlx = {
      command = [ "/opt/homebrew/bin/vllm-mlx" ];
      model = "mlx-community/Qwen3-8B-4bit";
      extraArgs = [
        "--tool-call-parser"
        "hermes"
      ];
      huggingFaceHome = "/Volumes/Hugging Face";
      port = 11436;
      memoryReserveGb = 20;
    };
  };

  keep-warm.services.bifrost.vllm-mlx = {
    model = "~/models/mine";
    keepWarm = "4m";
  };

  # Somebody else's model server.
  gateway-only.services.bifrost.vllm-mlx.enable = false;
}
