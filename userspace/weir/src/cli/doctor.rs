//! `weir doctor`: what this host allows, each finding with its remedy.

use std::process::ExitCode;

use anyhow::Result;
use weir_l4::Finding;

use super::show::table;

pub(crate) fn doctor(json: bool) -> Result<ExitCode> {
    let findings = weir_l4::doctor();
    if json {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        println!("{}", serde_json::to_string_pretty(&findings)?);
    } else {
        let rows = findings.iter().map(|finding| {
            let verdict = if finding.ok { "ok" } else { "--" };
            [
                verdict.to_owned(),
                finding.subject.to_owned(),
                finding.found.clone(),
                finding.remedy.to_owned(),
            ]
        });
        print!("{}", table(["", "looked at", "found", "to do"], rows));
    }
    let all_ok = findings.iter().all(|finding| finding.ok);
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn as_json(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "subject": finding.subject,
        "ok": finding.ok,
        "found": finding.found,
        "remedy": finding.remedy,
    })
}
