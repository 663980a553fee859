//! The findings as one HTML file that needs no other.
//!
//! The rule it keeps: every text is escaped; there is no script, and nothing is fetched.

use std::fmt::Write as _;

use super::report::{LIMITS, Report};

const STYLE: &str = "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#111;background:#fff}\
table{border-collapse:collapse}th,td{border:1px solid #888;padding:.3em .6em;text-align:left;vertical-align:top}\
.bad{color:#8b0000;font-weight:bold}.good{color:#005000;font-weight:bold}pre{background:#f3f3f3;padding:.6em;overflow:auto}";

/// The page for these reports.
pub fn page(reports: &[Report]) -> String {
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>Connector files under trial</title><style>{STYLE}</style></head><body>\n\
         <h1>Connector files under trial</h1>\n"
    );
    // Writing to a text does not fail.
    for report in reports {
        let (class, verdict) =
            if report.holds() { ("good", "every promise holds") } else { ("bad", "not safe to use") };
        let _ = write!(
            page,
            "<h2>{}</h2>\n<p class=\"{class}\">{verdict}</p>\n<p>Ends as {}. Digest {}. Seed {}.</p>\n<table>\n",
            escaped(&report.name),
            escaped(report.outcome),
            escaped(&report.digest),
            report.seed
        );
        for (name, value) in report.numbers() {
            let _ = writeln!(page, "<tr><th>{}</th><td>{}</td></tr>", escaped(name), escaped(&value));
        }
        let _ = writeln!(page, "<tr><th>time</th><td>{:.1} s</td></tr>\n</table>", report.took.as_secs_f64());
        if !report.violations.is_empty() {
            page.push_str("<h3>Broken promises</h3>\n");
        }
        for violation in &report.violations {
            let _ = writeln!(
                page,
                "<p class=\"bad\">{}</p>\n<p>In: {}</p>\n<pre>{}</pre>",
                escaped(&violation.what),
                escaped(&violation.trial),
                escaped(&violation.story.join("\n"))
            );
        }
        listed(&mut page, "Trusted by status alone", report.trusts.iter());
        listed(&mut page, "Replies that the stand-in does not have", report.gaps.iter());
        listed(&mut page, "Slips that nothing notices", report.unnoticed.iter());
    }
    listed(&mut page, "What this does not show", LIMITS.map(str::to_owned).iter());
    page.push_str("</body></html>\n");
    page
}

fn listed<'l>(page: &mut String, head: &str, lines: impl Iterator<Item = &'l String>) {
    let items: String = lines.map(|line| format!("<li>{}</li>\n", escaped(line))).collect();
    if !items.is_empty() {
        let _ = write!(page, "<h3>{head}</h3>\n<ul>\n{items}</ul>\n");
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
