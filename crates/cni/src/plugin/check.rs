//! `CHECK`: whether everything is as `ADD` has left it.

use super::{Call, add, annotations, causes};
use crate::protocol::{CniError, Code, Previous};

pub(super) fn check(call: &Call<'_>) -> Result<(), CniError> {
    let Call { config, args, .. } = call;
    let previous = config.prev_result.map(|raw| Previous::read(raw, &config.cni_version)).transpose()?;
    let pod = args.pod();
    let policy = match &args.iptables_config {
        Some(json) => annotations::nomads_policy(json)?,
        None => {
            let of_pod = add::of_pod(call)?;
            if !annotations::wants_redirection(&of_pod) {
                return Ok(());
            }
            annotations::policy(&of_pod, &call.addresses(previous.as_ref())?, &pod)?
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
