//! The providers that the project ships: one row each, in order of preference.
//!
//! A row is taken from the vendor's own documentation, named beside it. What a row does not say is what the many
//! OpenAI-compatible providers have in common ([`COMPATIBLE`]).

mod aggregators;
mod hosts;
mod local;
mod vendors;

use super::{Auth, BodyEdit, EndpointRow, ModelList, ProviderKind, ProviderRow};
use crate::chat::DialectId;
use crate::dialect::Profile;

/// Every provider known without config, the preferred ones first.
pub const ROWS: &[ProviderRow] = &[
    local::MLX_LOCAL,
    vendors::ANTHROPIC,
    vendors::OPENAI,
    vendors::GEMINI,
    vendors::MISTRAL,
    vendors::DEEPSEEK,
    vendors::XAI,
    vendors::MOONSHOT,
    vendors::ZAI,
    vendors::ALIBABA,
    vendors::MINIMAX,
    vendors::COHERE,
    hosts::GROQ,
    hosts::CEREBRAS,
    hosts::TOGETHER,
    hosts::FIREWORKS,
    hosts::DEEPINFRA,
    hosts::NVIDIA,
    hosts::SAMBANOVA,
    hosts::BASETEN,
    hosts::NEBIUS,
    hosts::NOVITA,
    hosts::OLLAMA_CLOUD,
    aggregators::OPENROUTER,
    aggregators::VERCEL,
    aggregators::HUGGINGFACE,
    aggregators::GITHUB,
    local::OLLAMA,
    local::LMSTUDIO,
    local::VLLM,
    local::LLAMA_SWAP,
    local::LLAMA_CPP,
];

/// What OpenAI-compatible providers in the cloud have in common.
const COMPATIBLE: ProviderRow = ProviderRow {
    name: "",
    endpoints: &[],
    auth: Auth::Bearer,
    key_env: &[],
    models: ModelList::OpenAi,
    kind: ProviderKind::Vendor,
    profile: Profile::COMPATIBLE,
    edits: &[BodyEdit::IncludeUsage],
    opt_in: false,
};

/// An endpoint of OpenAI's dialect whose paths begin with `/v1`.
const fn openai_at(base_url: &'static str) -> EndpointRow {
    EndpointRow { dialect: DialectId::OpenAiChat, base_url, version: "/v1" }
}

/// An endpoint of Anthropic's dialect.
const fn anthropic_at(base_url: &'static str) -> EndpointRow {
    EndpointRow { dialect: DialectId::Anthropic, base_url, version: "/v1" }
}

/// The row called `name`.
pub fn row(name: &str) -> Option<&'static ProviderRow> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Url;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_fit_before_a_slash() {
        let mut seen = HashSet::new();
        for row in ROWS {
            assert!(seen.insert(row.name), "{} stands twice", row.name);
            assert!(
                !row.name.is_empty()
                    && row.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{}",
                row.name
            );
        }
    }

    #[test]
    fn the_cloud_is_reached_by_https_and_local_servers_by_loopback() {
        for row in ROWS {
            assert!(!row.endpoints.is_empty(), "{} has no endpoint", row.name);
            for endpoint in row.endpoints {
                let url = Url::parse(endpoint.base_url).expect(row.name);
                if row.kind == ProviderKind::Local {
                    assert_eq!((url.scheme(), url.host_str()), ("http", Some("127.0.0.1")), "{}", row.name);
                    assert_ne!(url.port(), Some(11435), "{}: a macOS application takes that port", row.name);
                } else {
                    assert_eq!(url.scheme(), "https", "{}", row.name);
                    assert!(url.domain().is_some(), "{}", row.name);
                }
            }
        }
    }

    #[test]
    fn base_urls_end_before_the_version() {
        for row in ROWS {
            for endpoint in row.endpoints {
                assert!(!endpoint.base_url.ends_with('/'), "{}", row.name);
                assert!(endpoint.version.is_empty() || endpoint.version.starts_with("/v"), "{}", row.name);
                let read = crate::provider::Endpoint::new(endpoint.dialect, endpoint.base_url, endpoint.version);
                assert_eq!((read.base_url(), read.version()), (endpoint.base_url, endpoint.version), "{}", row.name);
            }
            let dialects: HashSet<_> = row.endpoints.iter().map(|endpoint| endpoint.dialect).collect();
            assert_eq!(dialects.len(), row.endpoints.len(), "{} speaks a dialect twice", row.name);
        }
    }

    #[test]
    fn cloud_rows_say_where_their_key_is_and_local_ones_need_none() {
        for row in ROWS {
            assert_eq!(row.auth == Auth::None, row.kind == ProviderKind::Local, "{}", row.name);
            if row.kind != ProviderKind::Local {
                assert!(!row.key_env.is_empty(), "{}", row.name);
            }
            for name in row.key_env {
                assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'), "{name}");
            }
        }
    }

    #[test]
    fn a_models_list_stands_at_an_endpoint_of_its_dialect() {
        for row in ROWS {
            let provider = row.provider();
            assert_eq!(provider.models_url().is_some(), row.models != ModelList::None, "{}", row.name);
        }
    }

    #[test]
    fn of_the_local_servers_only_mlx_is_asked_without_being_named() {
        let asked: Vec<_> = ROWS.iter().filter(|row| row.kind == ProviderKind::Local && !row.opt_in).collect();
        assert_eq!(asked.iter().map(|row| row.name).collect::<Vec<_>>(), [crate::provider::MLX_LOCAL]);
    }

    #[test]
    fn tokens_that_are_set_for_other_work_make_no_provider_active() {
        for row in ROWS {
            if row.key_env.iter().any(|name| ["GITHUB_TOKEN", "HF_TOKEN"].contains(name)) {
                assert!(row.opt_in, "{}", row.name);
            }
        }
    }

    #[test]
    fn edits_say_the_same_as_the_profile() {
        use crate::dialect::TokenLimitField;
        for row in ROWS {
            let renames = row.edits.contains(&BodyEdit::MaxTokensName);
            assert!(!renames || row.profile.token_limit == TokenLimitField::MaxTokens, "{}", row.name);
            let renames = row.edits.contains(&BodyEdit::MaxCompletionTokensName);
            assert!(!renames || row.profile.token_limit == TokenLimitField::MaxCompletionTokens, "{}", row.name);
            assert_eq!(row.edits.contains(&BodyEdit::StopAsList), row.profile.stop_list_only, "{}", row.name);
            let demotes = row.edits.contains(&BodyEdit::DeveloperAsSystem);
            assert!(!demotes || !row.profile.developer_role, "{}", row.name);
        }
    }

    #[test]
    fn no_key_is_offered_to_two_vendors() {
        let mut owner = std::collections::HashMap::new();
        for row in ROWS {
            for name in row.key_env {
                if let Some(other) = owner.insert(*name, row.name) {
                    panic!("{name} would be sent to {other} and to {}", row.name);
                }
            }
        }
    }
}
