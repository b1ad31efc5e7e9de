//! `CHECK`: whether everything is as `ADD` has left it.

use super::annotations::{Wanted, wants_redirection};
use super::{Call, add, causes};
use crate::protocol::{CniError, Code, Previous};
use redirect::{Config, Policy};

pub(super) fn check(call: &Call<'_>) -> Result<(), CniError> {
    let Call { config, args, .. } = call;
    let previous = config.prev_result.map(|raw| Previous::read(raw, &config.cni_version)).transpose()?;
    let pod = args.pod();
    let policy = match &args.iptables_config {
        Some(json) => {
            let wrong =
                |why: String| CniError::new(Code::InvalidEnvironment, format!("could not unmarshal CNI args: {why}"));
            let config = Config::from_json(json).map_err(|error| wrong(error.to_string()))?;
            Policy::from_config(&config, false).map_err(|errors| wrong(errors.to_string()))?
        }
        None => {
            let annotations = add::annotations(call)?;
            if !wants_redirection(&annotations) {
                return Ok(());
            }
            let mut wanted = Wanted::read(&annotations, &pod)?;
            if let Some(previous) = &previous {
                add::name_sources(&mut wanted.config, previous);
            }
            wanted.policy(&pod)?
        }
    };
    let failed = |error: &dyn std::error::Error| {
        CniError::new(Code::Io, format!("could not read the rules of pod {pod}: {}", causes(error)))
    };
    let verified = call.namespace()?.run(|| redirect::verify(&policy)).map_err(|error| failed(&error))?;
    let drift = verified.map_err(|error| failed(&error))?.drift;
    if drift.is_empty() {
        return Ok(());
    }
    let differences: Vec<String> = drift.iter().map(ToString::to_string).collect();
    Err(CniError::new(Code::Drift, format!("the redirection of pod {pod} is not in force"))
        .hint(format!("{}; delete the pod, so that its sandbox is made anew", differences.join("; "))))
}
