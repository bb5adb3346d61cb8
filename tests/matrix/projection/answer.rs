//! What an answer says, and what each dialect cannot say of it.

use bifrost::chat::{Candidate, DialectId, Part, Response, Signature, StopReason, Usage};
use serde_json::Value;

/// The words of an answer, without what is only a matter of form: ids, frames, where a text was cut.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    pub candidates: Vec<Alternative>,
    pub usage: Option<Usage>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Alternative {
    pub said: Vec<Said>,
    pub stop: Option<StopReason>,
    pub stop_sequence: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    Text {
        text: String,
        signature: Option<Signature>,
    },
    Reasoning {
        text: String,
        signature: Option<Signature>,
        encrypted: Option<Signature>,
    },
    /// Arguments that are not JSON are kept as the text they are.
    Call {
        name: String,
        arguments: Value,
        signature: Option<Signature>,
    },
    Refusal(String),
}

/// One thing that a dialect cannot say.
pub struct Projection {
    /// What it is about; the words of `x-bifrost-loss` hold it, unless `told` is false.
    pub field: &'static str,
    /// Why the dialect cannot say it.
    pub reason: &'static str,
    /// True when it takes something away that a client may miss; then it must be named as a loss.
    pub told: bool,
    /// Takes away what cannot be said.
    pub apply: fn(&mut Answer),
}

impl Answer {
    /// What `response` says.
    pub fn of(response: &Response) -> Self {
        // A count of nothing says no more than no count.
        let counted = |count: Option<u64>| count.filter(|count| *count > 0);
        let usage = response.usage.map(|usage| Usage {
            cache_read: counted(usage.cache_read),
            cache_write: counted(usage.cache_write),
            cache_write_1h: counted(usage.cache_write_1h),
            reasoning: counted(usage.reasoning),
            ..usage
        });
        let mut answer = Self { candidates: response.candidates.iter().map(Alternative::of).collect(), usage };
        answer.tidy();
        answer
    }

    /// What is left of it in `dialect`, and the fields of the projections that took something away.
    pub fn project(&self, dialect: DialectId) -> (Self, Vec<&'static str>) {
        let mut answer = self.clone();
        let mut lost = Vec::new();
        for projection in projections(dialect) {
            assert!(!projection.reason.is_empty());
            let before = answer.clone();
            (projection.apply)(&mut answer);
            if projection.told && answer != before {
                lost.push(projection.field);
            }
        }
        answer.tidy();
        (answer, lost)
    }

    /// The first difference to `other`, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self.candidates.len() != other.candidates.len() {
            return Some(format!("candidates: {} != {}", self.candidates.len(), other.candidates.len()));
        }
        for (own, their) in self.candidates.iter().zip(&other.candidates) {
            if let Some(at) =
                (0..own.said.len().max(their.said.len())).find(|at| own.said.get(*at) != their.said.get(*at))
            {
                let show = |side: &Alternative| format!("{:?}", side.said.get(at));
                return Some(differing(&format!("part {at}"), &show(own), &show(their)));
            }
            if own.stop != their.stop {
                return Some(format!("stop: {:?} != {:?}", own.stop, their.stop));
            }
            if own.stop_sequence != their.stop_sequence {
                return Some(format!("stop_sequence: {:?} != {:?}", own.stop_sequence, their.stop_sequence));
            }
        }
        (self.usage != other.usage).then(|| format!("usage: {:?} != {:?}", self.usage, other.usage))
    }

    /// Joins texts that follow each other and takes out what says nothing. Reasoning that only its vendor can read may
    /// stand in one block with its summary or in a block of its own.
    fn tidy(&mut self) {
        for candidate in &mut self.candidates {
            let mut tidy: Vec<Said> = Vec::new();
            let apart = candidate.said.drain(..).flat_map(Said::apart);
            for said in apart.filter(|said| !said.is_empty()) {
                match (tidy.last_mut(), said) {
                    (Some(Said::Refusal(text)), Said::Refusal(more)) => text.push_str(&more),
                    // A signature stands behind what it signs, however many pieces that came in.
                    (Some(Said::Text { text, signature: signed @ None }), Said::Text { text: more, signature }) => {
                        text.push_str(&more);
                        *signed = signature;
                    }
                    (
                        Some(Said::Reasoning { text, signature: None, encrypted: None }),
                        Said::Reasoning { text: more, signature: None, encrypted: None },
                    ) => text.push_str(&more),
                    (_, said) => tidy.push(said),
                }
            }
            candidate.said = tidy;
        }
    }

    fn each(&mut self, change: impl Fn(&mut Alternative)) {
        self.candidates.iter_mut().for_each(change);
    }
}

/// Both sides from a little before where they part.
pub fn differing(name: &str, left: &str, right: &str) -> String {
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right).count();
    let cut = |text: &str| text.chars().skip(same.saturating_sub(60)).take(220).collect::<String>();
    format!("{name}: ..{} != ..{}", cut(left), cut(right))
}

impl Alternative {
    fn of(candidate: &Candidate) -> Self {
        Self {
            said: candidate.parts.iter().filter_map(Said::of).collect(),
            stop: candidate.stop.clone(),
            stop_sequence: candidate.stop_sequence.clone(),
        }
    }

    fn has_calls(&self) -> bool {
        self.said.iter().any(|said| matches!(said, Said::Call { .. }))
    }
}

impl Said {
    /// `None` for media and for parts that only one dialect knows.
    pub fn of(part: &Part) -> Option<Self> {
        match part {
            Part::Text { text, signature, .. } => Some(Self::Text { text: text.clone(), signature: signature.clone() }),
            Part::Reasoning(part) => Some(Self::Reasoning {
                text: part.text.clone(),
                signature: part.signature.clone(),
                encrypted: part.encrypted.clone(),
            }),
            Part::ToolCall(call) => Some(Self::Call {
                name: call.name.clone(),
                arguments: call.parsed_arguments().unwrap_or_else(|| Value::String(call.arguments.clone())),
                signature: call.signature.clone(),
            }),
            Part::Refusal(text) => Some(Self::Refusal(text.clone())),
            Part::Media(_) | Part::Foreign { .. } | Part::ToolResult(_) => None,
        }
    }

    fn apart(self) -> Vec<Self> {
        match self {
            Self::Reasoning { text, signature, encrypted } => vec![
                Self::Reasoning { text, signature, encrypted: None },
                Self::Reasoning { text: String::new(), signature: None, encrypted },
            ],
            said => vec![said],
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text { text, signature } => text.is_empty() && signature.is_none(),
            Self::Reasoning { text, signature, encrypted } => {
                text.is_empty() && signature.is_none() && encrypted.is_none()
            }
            Self::Refusal(text) => text.is_empty(),
            Self::Call { .. } => false,
        }
    }
}

/// What `dialect` cannot say of an answer.
pub fn projections(dialect: DialectId) -> &'static [Projection] {
    match dialect {
        DialectId::OpenAiChat => &OPENAI_CHAT,
        DialectId::Anthropic => &ANTHROPIC,
        DialectId::Gemini => &GEMINI,
    }
}

const OPENAI_CHAT: [Projection; 5] = [
    Projection {
        field: "stop",
        reason: "strict SDKs know five finish reasons",
        told: true,
        apply: |answer| {
            answer.each(|candidate| {
                candidate.stop = candidate.stop.take().map(|stop| match stop {
                    StopReason::ContextWindow => StopReason::MaxTokens,
                    StopReason::Refusal => StopReason::ContentFilter,
                    StopReason::EndTurn | StopReason::MaxTokens | StopReason::ToolUse | StopReason::ContentFilter => {
                        stop
                    }
                    _ => StopReason::EndTurn,
                });
            });
        },
    },
    Projection {
        field: "stop",
        reason: "`stop` after calls is read as `tool_calls`: many servers mean that",
        told: false,
        apply: |answer| {
            answer.each(|candidate| {
                if candidate.stop == Some(StopReason::EndTurn) && candidate.has_calls() {
                    candidate.stop = Some(StopReason::ToolUse);
                }
            });
        },
    },
    Projection {
        field: "stop_sequence",
        reason: "the sequence that was hit is not told",
        told: true,
        apply: |answer| answer.each(|candidate| candidate.stop_sequence = None),
    },
    Projection {
        field: "order",
        reason: "a message has one reasoning, one text, one refusal and a list of calls, in no order among them",
        told: false,
        apply: |answer| {
            answer.each(|candidate| {
                candidate.said.sort_by_key(|said| match said {
                    Said::Reasoning { .. } => 0,
                    Said::Text { .. } => 1,
                    Said::Refusal(_) => 2,
                    Said::Call { .. } => 3,
                });
                join_signed_texts(&mut candidate.said);
            });
        },
    },
    Projection {
        field: "cache",
        reason: "tokens written to a cache are counted together, however long they are kept",
        told: true,
        apply: |answer| {
            if let Some(usage) = &mut answer.usage {
                usage.cache_write_1h = None;
            }
        },
    },
];

const ANTHROPIC: [Projection; 5] = [
    Projection {
        field: "reasoning.signature",
        reason: "a proof of a text would be the last block of the answer, and clients take that for its text",
        told: true,
        apply: |answer| {
            answer.each(|candidate| {
                for said in &mut candidate.said {
                    if let Said::Text { signature, .. } = said {
                        *signature = None;
                    }
                }
            });
        },
    },
    Projection {
        field: "candidates",
        reason: "a message is one answer",
        told: true,
        apply: |answer| answer.candidates.truncate(1),
    },
    Projection { field: "refusal", reason: "a refusal is text like any other", told: true, apply: refusal_to_text },
    Projection {
        field: "stop",
        reason: "stop_reason knows no filter but a refusal, and no words of other vendors",
        told: true,
        apply: |answer| {
            answer.each(|candidate| {
                candidate.stop = candidate.stop.take().map(|stop| match stop {
                    StopReason::ContentFilter => StopReason::Refusal,
                    StopReason::MalformedToolCall => StopReason::EndTurn,
                    StopReason::Other(word) if word != "compaction" => StopReason::EndTurn,
                    stop => stop,
                });
            });
        },
    },
    Projection {
        field: "usage",
        reason: "SDKs demand counts, so unknown ones are zeros",
        told: true,
        apply: |answer| {
            answer.usage.get_or_insert_with(Usage::default);
        },
    },
];

/// Words of Gemini's that stand for no neutral reason; any other word becomes `OTHER`.
const GEMINI_WORDS: [&str; 7] = [
    "LANGUAGE",
    "OTHER",
    "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS",
    "NO_IMAGE",
    "IMAGE_OTHER",
    "MISSING_THOUGHT_SIGNATURE",
];

const GEMINI: [Projection; 5] = [
    Projection { field: "refusal", reason: "a refusal is text like any other", told: true, apply: refusal_to_text },
    Projection {
        field: "stop",
        reason: "FinishReason has no words for stop sequences, pauses, refusals and a full context window",
        told: true,
        apply: |answer| {
            answer.each(|candidate| {
                candidate.stop = candidate.stop.take().map(|stop| match stop {
                    StopReason::StopSequence | StopReason::PauseTurn => StopReason::EndTurn,
                    StopReason::ContextWindow => StopReason::MaxTokens,
                    StopReason::Refusal => StopReason::ContentFilter,
                    StopReason::Other(word) if !GEMINI_WORDS.contains(&word.as_str()) => {
                        StopReason::Other("OTHER".into())
                    }
                    stop => stop,
                });
            });
        },
    },
    Projection {
        field: "stop",
        reason: "STOP after calls means that they are to be run, STOP without calls the end of the turn",
        told: false,
        apply: |answer| {
            answer.each(|candidate| {
                if matches!(candidate.stop, Some(StopReason::EndTurn | StopReason::ToolUse)) {
                    candidate.stop =
                        Some(if candidate.has_calls() { StopReason::ToolUse } else { StopReason::EndTurn });
                }
            });
        },
    },
    Projection {
        field: "stop_sequence",
        reason: "the sequence that was hit is not told",
        told: true,
        apply: |answer| answer.each(|candidate| candidate.stop_sequence = None),
    },
    Projection {
        field: "cache",
        reason: "usageMetadata has no count of tokens written to a cache",
        told: true,
        apply: |answer| {
            if let Some(usage) = &mut answer.usage {
                usage.cache_write = None;
                usage.cache_write_1h = None;
            }
        },
    },
];

/// The one text of a message has one signature: that of the first signed piece.
fn join_signed_texts(said: &mut Vec<Said>) {
    let mut joined: Vec<Said> = Vec::new();
    for said in said.drain(..) {
        match (joined.last_mut(), said) {
            (Some(Said::Text { text, signature: first }), Said::Text { text: more, signature }) => {
                text.push_str(&more);
                *first = first.take().or(signature);
            }
            (_, said) => joined.push(said),
        }
    }
    *said = joined;
}

fn refusal_to_text(answer: &mut Answer) {
    answer.each(|candidate| {
        for said in &mut candidate.said {
            if let Said::Refusal(text) = said {
                *said = Said::Text { text: std::mem::take(text), signature: None };
            }
        }
    });
}
