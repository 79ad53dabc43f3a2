//! `milepost doctor`: the checks that `run` makes before it reads anything, and some that it can't make in time, on their own.
//!
//! Nothing is created and nothing is altered, apart from a consumer, a file and an object for the moment of a try.

mod broker;
mod home;
mod permissions;
mod stores;

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::error::{Concern, Error, ErrorKind};

use super::options::{Common, ReportFormat};
use super::run::given;
use super::{Failure, Outcome, output, prepared};

/// What `doctor` takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: Common,
    /// The broker, instead of the pipeline's `nats.url` [default: nats://127.0.0.1:4222]
    #[arg(long, value_name = "URL", env = "NATS_URL", hide_env_values = true)]
    nats: Option<String>,
    /// A credentials file for it, instead of what the pipeline's `nats` names
    #[arg(long, value_name = "FILE", env = "NATS_CREDS")]
    nats_creds: Option<PathBuf>,
    /// Leave out what only change streams need
    #[arg(long)]
    no_publish: bool,
    /// How it is printed
    #[arg(long, value_enum, default_value = "table")]
    format: ReportFormat,
}

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it must be.
    Ok,
    /// The pipeline runs, and something may go wrong.
    Warning,
    /// The pipeline can't run so, or its promises can't be kept.
    Refused,
    /// It could not be looked at.
    Unreachable,
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    verdict: Verdict,
    /// What was looked at.
    check: String,
    /// How it is.
    says: String,
    /// What mends it; none where nothing has to be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    mend: Option<String>,
}

impl Check {
    fn ok(check: impl Into<String>, says: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, check: check.into(), says: says.into(), mend: None }
    }

    fn concern(verdict: Verdict, check: impl Into<String>, concern: Concern) -> Self {
        Self { verdict, check: check.into(), says: concern.wrong, mend: Some(concern.mend) }
    }

    fn refused(check: impl Into<String>, wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::concern(Verdict::Refused, check, Concern::new(wrong, mend))
    }

    fn warning(check: impl Into<String>, wrong: impl Into<String>, mend: impl Into<String>) -> Self {
        Self::concern(Verdict::Warning, check, Concern::new(wrong, mend))
    }

    /// An error of looking: whose kind says that the environment is away, could not look; any other is a refusal.
    fn failed(check: impl Into<String>, error: &Error) -> Self {
        let verdict = if error.kind() == ErrorKind::Unavailable { Verdict::Unreachable } else { Verdict::Refused };
        Self { verdict, check: check.into(), says: error.chain(), mend: None }
    }
}

/// Looks at everything, and says how it is.
pub(crate) async fn doctor(arguments: &Arguments) -> Outcome {
    let pipeline = prepared(&arguments.common)?;
    let nats = pipeline.nats.clone().overridden(given(arguments.nats.clone()), given(arguments.nats_creds.clone()));
    let publish = !arguments.no_publish;
    let mut checks = broker::checks(&pipeline, &nats, publish).await;
    checks.extend(stores::checks(&pipeline).await);
    checks.extend(home::checks(&pipeline, &arguments.common.home));
    let worst = checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Ok);
    match arguments.format {
        ReportFormat::Table => output::print_bytes(text(&checks).as_bytes())?,
        ReportFormat::Json => output::print_json(&serde_json::json!({
            "pipeline": pipeline.name,
            "verdict": worst,
            "checks": checks,
        }))?,
    }
    match worst {
        Verdict::Ok | Verdict::Warning => Ok(()),
        Verdict::Refused => Err(Failure::No),
        Verdict::Unreachable => {
            let away = checks.iter().filter(|check| check.verdict == Verdict::Unreachable).count();
            let doing = format!("{away} of {} checks could not be made", checks.len());
            Err(Error::new(ErrorKind::Unavailable, doing).into())
        }
    }
}

/// One line a check; what mends it stands behind what is wrong.
fn text(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.check.chars().count()).max().unwrap_or(0);
    let line = |check: &Check| {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warning => "warning",
            Verdict::Refused => "refused",
            Verdict::Unreachable => "unreachable",
        };
        let mend = check.mend.as_ref().map(|mend| format!("; {mend}")).unwrap_or_default();
        format!("{verdict:<11}  {:<width$}  {}{mend}\n", check.check, output::on_one_line(&check.says))
    };
    checks.iter().map(line).collect()
}
