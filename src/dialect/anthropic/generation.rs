//! What a Claude model takes, by the generation that its name tells.
//!
//! The older generations are a closed list: what they lack will never change, and a name that is not on it is a newer
//! model, for which the newest rules hold. Sources: Anthropic's pages on extended thinking, adaptive thinking, effort,
//! mid-conversation system messages and the migration guides for Claude 4.6, Opus 4.7 and Sonnet 5 (read November 2026).

/// Which forms of `thinking` a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ThinkingForm {
    /// `enabled` with `budget_tokens` only: Claude up to 4.5.
    Budget,
    /// Both: Claude 4.6.
    Either,
    /// `adaptive` with `output_config.effort` only: Opus 4.7 and everything after.
    Adaptive,
    /// Not a Claude model: a server that speaks the dialect. The older form is the one they have in common.
    Unknown,
}

/// The generation of a model, from its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(Option<(u8, u8)>);

impl Generation {
    /// Reads `claude-3-5-haiku-20241022`, `claude-sonnet-4-20250514`, `anthropic/claude-opus-4.5`,
    /// `us.anthropic.claude-haiku-4-5-20251001-v1:0`, `claude-opus-4-5@20251101`. A Claude without a number is the newest.
    pub(super) fn of(model: &str) -> Self {
        let Some(at) = model.rfind("claude") else { return Self(None) };
        let mut numbers = model[at..]
            .split(['-', '.', '@', ':', '_', '/'])
            .map(|word| word.parse::<u8>().ok())
            .skip_while(Option::is_none)
            .map_while(|number| number);
        let newest = (u8::MAX, 0);
        Self(Some(numbers.next().map_or(newest, |major| (major, numbers.next().unwrap_or(0)))))
    }

    pub(super) fn thinking(self) -> ThinkingForm {
        match self.0 {
            None => ThinkingForm::Unknown,
            Some(version) if version <= (4, 5) => ThinkingForm::Budget,
            Some((4, 6)) => ThinkingForm::Either,
            Some(_) => ThinkingForm::Adaptive,
        }
    }

    /// Takes `temperature`, `top_p` and `top_k` other than the defaults.
    pub(super) fn takes_sampling(self) -> bool {
        self.0.is_none_or(|version| version <= (4, 6))
    }

    /// Takes `temperature` and `top_p` in one request.
    pub(super) fn takes_temperature_with_top_p(self) -> bool {
        self.0.is_none_or(|version| version <= (4, 0))
    }

    /// Takes messages with the role `system` between the others.
    pub(super) fn takes_system_messages(self) -> bool {
        self.0.is_some_and(|version| version >= (4, 8))
    }

    /// Takes `output_config.effort`: of those that take no adaptive thinking only Opus 4.5 does.
    pub(super) fn takes_effort(self, model: &str) -> bool {
        self.0.is_none_or(|version| version > (4, 5) || (version == (4, 5) && model.contains("opus")))
    }

    /// Takes the effort `xhigh`.
    pub(super) fn takes_xhigh(self) -> bool {
        self.0.is_none_or(|version| version >= (4, 7))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_generation() {
        for (name, version) in [
            ("claude-3-5-haiku-20241022", (3, 5)),
            ("claude-3-opus-20240229", (3, 0)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-sonnet-4-0", (4, 0)),
            ("anthropic/claude-opus-4.5", (4, 5)),
            ("us.anthropic.claude-haiku-4-5-20251001-v1:0", (4, 5)),
            ("claude-opus-4-5@20251101", (4, 5)),
            ("claude-opus-4-6", (4, 6)),
            ("claude-sonnet-5", (5, 0)),
            ("claude-fable-5-v1:0", (5, 0)),
            ("claude-latest", (u8::MAX, 0)),
        ] {
            assert_eq!(Generation::of(name), Generation(Some(version)), "{name}");
        }
        assert_eq!(Generation::of("mlx-community/Qwen3-4B-4bit").thinking(), ThinkingForm::Unknown);
    }
}
