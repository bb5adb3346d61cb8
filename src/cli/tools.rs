//! `bifrost env`: how each tool is pointed at the gateway. One row per tool; the documentation is the tool's own.

use super::client::{GatewayArgs, Trouble, address, named_address};
use super::columns::Columns;
use super::{Exit, Output};
use crate::config::{Inputs, Snapshot};
use clap::{Args, ValueEnum};

/// Options of `env`.
#[derive(Debug, Args)]
pub struct EnvArgs {
    /// The tool; without one, all of them are listed.
    pub tool: Option<String>,
    /// The shell that the variables are written for.
    #[arg(long, value_enum, default_value_t = Shell::Sh)]
    pub shell: Shell,
    /// Where the gateway is.
    #[command(flatten)]
    pub gateway: GatewayArgs,
}

/// A shell, as far as setting a variable goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// POSIX shells, bash and zsh.
    Sh,
    /// fish.
    Fish,
    /// Nushell.
    Nu,
}

/// One tool.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Its name behind `bifrost env`.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// How it is pointed at the gateway.
    pub how: How,
    /// What a person must know besides.
    pub notes: &'static [&'static str],
    /// The tool's own documentation of this.
    pub source: &'static str,
}

/// How a tool is pointed at the gateway. `{url}` stands for the gateway's address, without slash and without `/v1`.
#[derive(Debug, Clone, Copy)]
pub enum How {
    /// Variables to export.
    Variables(&'static [(&'static str, &'static str)]),
    /// A file to write, or to merge into the one that is there.
    File {
        /// Where.
        path: &'static str,
        /// What belongs into it.
        text: &'static str,
    },
    /// It cannot be done; the notes say why.
    Impossible,
}

/// Every tool, in the order of the list.
pub const TOOLS: &[Tool] = &[
    Tool {
        name: "claude-code",
        about: "Claude Code (Anthropic's dialect)",
        how: How::Variables(&[
            ("ANTHROPIC_BASE_URL", "{url}"),
            ("ANTHROPIC_AUTH_TOKEN", "dummy"),
            ("ANTHROPIC_MODEL", "coding"),
            ("ANTHROPIC_DEFAULT_OPUS_MODEL", "most-capable"),
            ("ANTHROPIC_DEFAULT_SONNET_MODEL", "coding"),
            ("ANTHROPIC_DEFAULT_HAIKU_MODEL", "quickest"),
            ("CLAUDE_CODE_ATTRIBUTION_HEADER", "0"),
        ]),
        notes: &[
            "CLAUDE_CODE_ATTRIBUTION_HEADER=0 leaves out a first line of the system prompt that changes with every \
             question; with it a local model reads the whole prompt anew each time.",
            "Claude Code drops thinking that another model's name stands over, so behind a class or `provider/model` a \
             Claude up to 4.6 goes on without it after a call of a tool. For its thinking name a Claude as Anthropic \
             does: ANTHROPIC_MODEL=claude-sonnet-4-5.",
            "To keep your own Claude login or key, export ANTHROPIC_BASE_URL alone: Bifrost hands that credential to \
             Anthropic and to nobody else.",
        ],
        source: "https://code.claude.com/docs/en/llm-gateway",
    },
    Tool {
        name: "codex",
        about: "OpenAI Codex CLI (needs the Responses API, which Bifrost does not serve yet)",
        how: How::Impossible,
        notes: &[
            "Codex speaks OpenAI's Responses API only (`wire_api = \"chat\"` was removed early in 2026), and this version \
             of Bifrost serves Chat Completions only.",
            "An older Codex takes, in ~/.codex/config.toml: model = \"coding\", model_provider = \"bifrost\", and below \
             [model_providers.bifrost]: name = \"Bifrost\", base_url = \"{url}/v1\", wire_api = \"chat\".",
        ],
        source: "https://github.com/openai/codex/discussions/7782",
    },
    Tool {
        name: "aider",
        about: "aider",
        how: How::Variables(&[
            ("OPENAI_API_BASE", "{url}/v1"),
            ("OPENAI_API_KEY", "dummy"),
            ("AIDER_MODEL", "openai/coding"),
        ]),
        notes: &[
            "The prefix `openai/` chooses aider's protocol and is not sent; what stands behind it is the model Bifrost gets.",
            "aider warns that it does not know the model; `--no-show-model-warnings` silences that.",
        ],
        source: "https://aider.chat/docs/llms/openai-compat.html",
    },
    Tool {
        name: "opencode",
        about: "opencode",
        how: How::File { path: "~/.config/opencode/opencode.json", text: OPENCODE },
        notes: &["opencode 2 spells the file otherwise: `bifrost env opencode-2`."],
        source: "https://opencode.ai/v1/docs/providers",
    },
    Tool {
        name: "opencode-2",
        about: "opencode 2, which npm does not have yet",
        how: How::File { path: "~/.config/opencode/opencode.jsonc", text: OPENCODE_2 },
        notes: &["Export BIFROST_API_KEY=dummy where opencode is started."],
        source: "https://opencode.ai/v2/docs/providers/",
    },
    Tool {
        name: "gemini-cli",
        about: "Gemini CLI (Google's dialect)",
        how: How::Variables(&[
            ("GOOGLE_GEMINI_BASE_URL", "{url}"),
            ("GEMINI_API_KEY", "dummy"),
            ("GEMINI_MODEL", "coding"),
        ]),
        notes: &[
            "Choose \"Use Gemini API key\" when it asks how to sign in; a login with Google goes past every gateway.",
            "`gemini -p` cannot ask: there ~/.gemini/settings.json must hold \
             {\"security\": {\"auth\": {\"selectedType\": \"gemini-api-key\"}}}.",
            "It takes http:// for localhost only.",
        ],
        source: "https://github.com/google-gemini/gemini-cli/blob/main/docs/reference/configuration.md",
    },
    Tool {
        name: "qwen-code",
        about: "Qwen Code",
        how: How::Variables(&[
            ("OPENAI_BASE_URL", "{url}/v1"),
            ("OPENAI_API_KEY", "dummy"),
            ("OPENAI_MODEL", "coding"),
        ]),
        notes: &["Choose the OpenAI-compatible way with /auth if it was signed in otherwise before."],
        source: "https://qwenlm.github.io/qwen-code-docs/en/users/configuration/model-providers/",
    },
    Tool {
        name: "llm",
        about: "llm (Simon Willison's)",
        how: How::File { path: "extra-openai-models.yaml in the folder of `llm logs path`", text: LLM },
        notes: &["The folder: dirname \"$(llm logs path)\". Then: llm -m bifrost 'question'"],
        source: "https://llm.datasette.io/en/stable/other-models.html#openai-compatible-models",
    },
    Tool {
        name: "openai",
        about: "OpenAI's SDKs, and what is built on them",
        how: How::Variables(&[("OPENAI_BASE_URL", "{url}/v1"), ("OPENAI_API_KEY", "dummy")]),
        notes: &["The model is a task class (`coding`), `auto`, or `provider/model`: `bifrost listmodels` lists them."],
        source: "https://github.com/openai/openai-python#readme",
    },
    Tool {
        name: "anthropic",
        about: "Anthropic's SDKs",
        how: How::Variables(&[("ANTHROPIC_BASE_URL", "{url}"), ("ANTHROPIC_API_KEY", "dummy")]),
        notes: &[
            "To keep your own key, export ANTHROPIC_BASE_URL alone: it is handed to Anthropic and to nobody else.",
        ],
        source: "https://github.com/anthropics/anthropic-sdk-python#readme",
    },
    Tool {
        name: "google-genai",
        about: "Google's Gen AI SDKs",
        how: How::Variables(&[("GOOGLE_GEMINI_BASE_URL", "{url}"), ("GEMINI_API_KEY", "dummy")]),
        notes: &[],
        source: "https://github.com/googleapis/python-genai#readme",
    },
    Tool {
        name: "continue",
        about: "Continue (VS Code, JetBrains, cn)",
        how: How::File { path: "~/.continue/config.yaml", text: CONTINUE },
        notes: &[],
        source: "https://docs.continue.dev/customize/model-providers/top-level/openai",
    },
    Tool {
        name: "zed",
        about: "Zed",
        how: How::File { path: "~/.config/zed/settings.json", text: ZED },
        notes: &[
            "Enter any text as the key at Settings, AI, LLM Providers, or export BIFROST_API_KEY=dummy before Zed starts.",
            "`max_tokens` is the context window; `bifrost listmodels` shows that of the model you use.",
        ],
        source: "https://zed.dev/docs/ai/use-api-access",
    },
    Tool {
        name: "cursor",
        about: "Cursor (cannot reach a gateway on this machine)",
        how: How::Impossible,
        notes: &[
            "Cursor's own servers make the call, also with your key, and refuse addresses on private networks; localhost \
             cannot be reached.",
        ],
        source: "https://cursor.com/help/models-and-usage/api-keys",
    },
];

const OPENCODE: &str = r#"{
  "$schema": "https://opencode.ai/config.json",
  "provider": {
    "bifrost": {
      "npm": "@ai-sdk/openai-compatible",
      "name": "Bifrost",
      "options": { "baseURL": "{url}/v1", "apiKey": "dummy" },
      "models": {
        "auto": { "name": "auto" },
        "coding": { "name": "coding" },
        "research": { "name": "research" },
        "review": { "name": "review" }
      }
    }
  }
}
"#;

const OPENCODE_2: &str = r#"{
  "$schema": "https://opencode.ai/config.json",
  "providers": {
    "bifrost": {
      "name": "Bifrost",
      "env": ["BIFROST_API_KEY"],
      "package": "@opencode/ai/providers/openai-compatible",
      "settings": { "baseURL": "{url}/v1" },
      "models": {
        "auto": { "name": "auto" },
        "coding": { "name": "coding" },
        "research": { "name": "research" },
        "review": { "name": "review" }
      }
    }
  }
}
"#;

const LLM: &str = r#"- model_id: bifrost
  model_name: auto
  api_base: "{url}/v1"
- model_id: bifrost-coding
  model_name: coding
  api_base: "{url}/v1"
"#;

const CONTINUE: &str = r#"name: Bifrost
version: 0.0.1
schema: v1
models:
  - name: Bifrost coding
    provider: openai
    model: coding
    apiBase: {url}/v1
    apiKey: dummy
"#;

const ZED: &str = r#"{
  "language_models": {
    "openai_compatible": {
      "bifrost": {
        "api_url": "{url}/v1",
        "available_models": [
          { "name": "coding", "display_name": "Bifrost coding", "max_tokens": 32768 }
        ]
      }
    }
  }
}
"#;

/// Prints the variables or the file on standard output, ready to be taken as it is; everything else is said beside it.
///
/// # Errors
/// There is no such tool.
pub fn run(args: &EnvArgs, inputs: &Inputs, output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let Some(name) = &args.tool else { return list(output) };
    let Some(tool) = TOOLS.iter().find(|tool| tool.name.eq_ignore_ascii_case(name)) else {
        return Err(unknown(name));
    };
    let snapshot = Snapshot::load(inputs).ok();
    let url = match (named_address(&args.gateway, inputs), &snapshot) {
        (Some(named), _) => named,
        (None, Some(snapshot)) => address(snapshot)?,
        (None, None) => {
            let message = "the configuration is not valid, so the gateway's address is not known\n\
                           `bifrost config check` says what is wrong; or name the address with --url";
            return Err(Trouble::new(Exit::ConfigInvalid, message));
        }
    };
    let filled = |text: &str| text.replace("{url}", &url);
    match tool.how {
        How::Variables(variables) => {
            for (variable, value) in variables {
                writeln!(output.out, "{}", args.shell.export(variable, &filled(value)))?;
            }
        }
        How::File { path, text } => {
            output.aside(&format!("# into {path} (merge it with what is there):"))?;
            output.out.write_all(filled(text).as_bytes())?;
        }
        How::Impossible => {}
    }
    output.out.flush()?;
    for note in tool.notes {
        output.aside(&format!("# {}", filled(note)))?;
    }
    if snapshot.is_some_and(|snapshot| !snapshot.server.api_keys.is_empty()) {
        output.aside("# This gateway asks for a key: put one of [server] api_keys in place of `dummy`.")?;
    }
    output.aside(&format!("# {}", tool.source))?;
    Ok(if matches!(tool.how, How::Impossible) { Exit::Refused } else { Exit::Ok })
}

fn list(output: &mut Output<'_>) -> Result<Exit, Trouble> {
    let mut columns = Columns::new(["TOOL", "WHAT"]);
    for tool in TOOLS {
        columns.row([tool.name.to_owned(), tool.about.to_owned()]);
    }
    writeln!(output.out, "{}", columns.text().unwrap_or_default())?;
    Ok(Exit::Ok)
}

fn unknown(name: &str) -> Trouble {
    let nearest = TOOLS.iter().map(|tool| (strsim::jaro_winkler(tool.name, &name.to_lowercase()), tool.name));
    let nearest = nearest.max_by(|(one, _), (other, _)| one.total_cmp(other)).filter(|(likeness, _)| *likeness > 0.7);
    let hint = nearest.map_or_else(
        || "any other tool that takes an OpenAI base URL: `bifrost env openai`; `bifrost env` lists all".to_owned(),
        |(_, nearest)| format!("did you mean `{nearest}`? `bifrost env` lists all"),
    );
    Trouble::new(Exit::NotFound, format!("no tool is called `{name}` here\n{hint}"))
}

impl Shell {
    /// A line that sets and exports a variable.
    fn export(self, variable: &str, value: &str) -> String {
        match self {
            Self::Sh => format!("export {variable}='{}'", value.replace('\'', r"'\''")),
            Self::Fish => format!("set -gx {variable} '{}'", value.replace('\\', r"\\").replace('\'', r"\'")),
            Self::Nu => format!("$env.{variable} = {}", serde_json::Value::from(value)),
        }
    }
}
