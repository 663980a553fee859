//! Whether a text can be a person's identifier at all, in any kind of system.
//!
//! The rule it keeps: a text that can identify no person is refused before any call. A system finds nobody by it, and
//! the job would end as erased. The refusal names the fault in words of a fixed list.
//!
//! In doubt the text is refused: a refusal is reported at once and can be corrected, but an absence ends as completed
//! and nobody checks it again.

use email_address::{EmailAddress, Options};
use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use url::Host;
use uuid::Uuid;

/// The longest identifier in bytes.
pub const MAX_IDENTIFIER: usize = 256;
/// The longest e-mail address in bytes.
pub const MAX_EMAIL: usize = 320;

/// The fault of a text that cannot be an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flaw {
    /// Empty, or too long.
    Length,
    /// White space at an end.
    Ends,
    /// A character that cannot be seen.
    Invisible,
    /// A template whose fields are not filled in.
    Template,
    /// The result of a spreadsheet or a conversion.
    Spreadsheet,
    /// A word for "no value".
    Placeholder,
    /// Quotes, brackets or a prefix around the value.
    Wrapped,
    /// More than one value.
    Several,
    /// Parts are masked.
    Masked,
    /// Neither a letter nor a digit.
    Signless,
    /// Not one e-mail address, if one is needed.
    NoEmail,
}

impl Flaw {
    /// Every flaw, in the order of the checks.
    pub const ALL: [Flaw; 11] = [
        Flaw::Length,
        Flaw::Ends,
        Flaw::Invisible,
        Flaw::Template,
        Flaw::Spreadsheet,
        Flaw::Placeholder,
        Flaw::Wrapped,
        Flaw::Several,
        Flaw::Masked,
        Flaw::Signless,
        Flaw::NoEmail,
    ];

    /// The fault, and the expected form. Never the text itself.
    pub const fn as_str(self) -> &'static str {
        match self {
            Flaw::Length => "expected 1 to 256 bytes of text (an e-mail address: 320)",
            Flaw::Ends => "has white space at an end; expected it without",
            Flaw::Invisible => "has a control, format or other invisible character; expected visible text only",
            Flaw::Template => "is a template that was not filled in; expected the person's own identifier",
            Flaw::Spreadsheet => {
                "is what a spreadsheet or a conversion made of a value; expected the column exported as text"
            }
            Flaw::Placeholder => "is a word for nothing; expected the person's own identifier",
            Flaw::Wrapped => "stands in quotes or brackets or behind a prefix; expected the bare identifier",
            Flaw::Several => "holds more than one value; expected one, and a target for each",
            Flaw::Masked => "is masked; expected it in full",
            Flaw::Signless => "has neither a letter nor a digit; expected the person's own identifier",
            Flaw::NoEmail => "expected exactly one e-mail address, such as ann@example.com",
        }
    }
}

/// The fault of a text that cannot be an identifier; `None` if it can.
pub fn flaw(text: &str) -> Option<Flaw> {
    if text.is_empty() || text.len() > MAX_IDENTIFIER { Some(Flaw::Length) } else { damage(text) }
}

/// The fault of a text that cannot be a person's e-mail address; `None` if it can.
pub fn email_flaw(text: &str) -> Option<Flaw> {
    if text.is_empty() || text.len() > MAX_EMAIL {
        return Some(Flaw::Length);
    }
    damage(text).or_else(|| match text.rsplit_once('@') {
        Some((local, _)) if is_template(local) => Some(Flaw::Template),
        Some((local, domain)) if is_nobodys(local, domain) => Some(Flaw::Placeholder),
        Some((local, domain)) if is_email(local, domain) => None,
        _ => Some(Flaw::NoEmail),
    })
}

/// True for a text with this damage.
type Look = fn(&str) -> bool;

fn damage(text: &str) -> Option<Flaw> {
    const LOOKED_FOR: [(Flaw, Look); 9] = [
        (Flaw::Ends, has_white_ends),
        (Flaw::Invisible, is_partly_invisible),
        (Flaw::Template, is_template),
        (Flaw::Spreadsheet, is_spreadsheets),
        (Flaw::Placeholder, is_placeholder),
        (Flaw::Wrapped, is_wrapped),
        (Flaw::Several, is_several),
        (Flaw::Masked, is_masked),
        (Flaw::Signless, is_signless),
    ];
    LOOKED_FOR.into_iter().find(|(_, is_so)| is_so(text)).map(|(flaw, _)| flaw)
}

fn has_white_ends(text: &str) -> bool {
    text.trim() != text
}

fn is_partly_invisible(text: &str) -> bool {
    text.chars().any(is_invisible)
}

/// White space except the plain and the ideographic blank (names may have two words); everything that the Unicode
/// tables of this build call control, format, private or unassigned; and letters or marks that are not drawn
/// (fillers, variation selectors).
fn is_invisible(c: char) -> bool {
    let is_odd_blank = c.is_whitespace() && c != ' ' && c != '\u{3000}';
    let is_lost = matches!(c, char::REPLACEMENT_CHARACTER | '\u{FFFC}' | '\u{2800}');
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    let is_no_text = matches!(
        category,
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::Unassigned
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
    );
    is_odd_blank || is_lost || is_no_text || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

fn is_template(text: &str) -> bool {
    let holds_mark =
        ["{{", "}}", "${", "#{", "<%", "%>", "{%", "%}", "[[", "]]"].iter().any(|mark| text.contains(mark));
    let stands_in = |begin: char, end: char| text.len() > 1 && text.starts_with(begin) && text.ends_with(end);
    // Some systems write a UUID in braces.
    let in_braces = stands_in('{', '}') && Uuid::try_parse(text).is_err();
    let is_format = text.strip_prefix('%').is_some_and(|rest| {
        let rest = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '$');
        matches!(rest, "s" | "d" | "i" | "u" | "v" | "@") || (rest.starts_with('(') && rest.contains(')'))
    });
    holds_mark || in_braces || stands_in('[', ']') || stands_in('%', '%') || text.starts_with("*|") || is_format
}

fn is_spreadsheets(text: &str) -> bool {
    let upper = text.to_uppercase();
    let is_error = upper.strip_prefix('#').is_some_and(|rest| {
        let is_named = rest.starts_with("N/") || rest == "NV" || rest == "NA";
        is_named || rest.ends_with(['!', '?']) || rest.chars().all(|c| c == '#')
    });
    let is_numbered_error = upper.strip_prefix("ERR:").is_some_and(is_digits);
    // The signs that mark a value as text, or as a formula.
    let is_marked = text.starts_with(['=', '\'']);
    is_error || is_numbered_error || is_marked || is_decimal_zero(text) || is_scientific(&upper)
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `123.0`: a whole number that was stored with a fraction.
fn is_decimal_zero(text: &str) -> bool {
    let zeros = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte == b'0');
    text.split_once(['.', ',']).is_some_and(|(whole, fraction)| is_digits(whole) && zeros(fraction))
}

/// `1.23E+11`. Without a fraction or a sign (`12E4`) it may be a code of hexadecimal digits.
fn is_scientific(upper: &str) -> bool {
    let Some((mantissa, exponent)) = upper.split_once('E') else { return false };
    let fraction = mantissa.split_once(['.', ',']);
    let is_number = fraction.map_or(is_digits(mantissa), |(whole, fraction)| is_digits(whole) && is_digits(fraction));
    let unsigned = exponent.trim_start_matches(['+', '-']);
    is_number
        && is_digits(unsigned)
        && exponent.len() - unsigned.len() < 2
        && (fraction.is_some() || unsigned != exponent)
}

/// Words that programs write for "no value". Repetitions (`null null`) and signs around them change nothing.
const NOTHING: [&str; 6] = ["null", "undefined", "none", "nil", "nan", "nul"];
/// Refused in exactly this form.
const NOTHING_AS_IS: [&str; 13] =
    ["n/a", "na", "n.a.", "\\n", "true", "false", "unknown", "empty", "blank", "missing", "tbd", "-1", "not available"];

fn is_placeholder(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).peekable();
    let is_nothing = words.peek().is_some() && words.all(|word| NOTHING.contains(&word));
    is_nothing
        || NOTHING_AS_IS.contains(&lower.as_str())
        || Uuid::try_parse(text).is_ok_and(|uuid| uuid.is_nil() || uuid.is_max())
}

/// `none@none.com`, `undefined@example.com`. There are people called Null, but not at such a domain.
fn is_nobodys(local: &str, domain: &str) -> bool {
    let first = domain.split('.').next().unwrap_or(domain);
    local.eq_ignore_ascii_case("undefined") || (is_placeholder(local) && is_placeholder(first))
}

fn is_wrapped(text: &str) -> bool {
    const PREFIXES: [&str; 4] = ["mailto:", "email:", "e-mail:", "smtp:"];
    const QUOTES: [char; 12] = ['"', '`', '“', '”', '„', '‘', '’', '‚', '«', '»', '‹', '›'];
    let lower = text.to_lowercase();
    let has_prefix = PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    let is_quoted = text.starts_with(QUOTES) || text.ends_with(QUOTES) || text.ends_with('\'');
    has_prefix || is_quoted || (text.contains('<') && text.contains('>'))
}

/// Several values in one cell. The parts of a distinguished name are one value (`uid=ann,ou=people`).
fn is_several(text: &str) -> bool {
    let is_named = |part: &str| part.trim().split_once('=').is_some_and(|(name, _)| !name.is_empty());
    text.contains([',', ';']) && !text.split([',', ';']).all(is_named)
}

fn is_masked(text: &str) -> bool {
    ["**", "••", "●●"].iter().any(|mask| text.contains(mask))
}

fn is_signless(text: &str) -> bool {
    !text.chars().any(char::is_alphanumeric)
}

/// One address at a domain of at least two parts, without a display name, quotes or a network address.
fn is_email(local: &str, domain: &str) -> bool {
    let options =
        Options::default().with_required_tld().without_domain_literal().without_display_text().with_long_local_parts();
    // Some carriers gave out addresses with two dots in a row, or with a dot before the at sign: they are valid.
    let atoms: Vec<&str> = local.split('.').filter(|atom| !atom.is_empty()).collect();
    let plain = format!("{}@{domain}", atoms.join("."));
    let is_plain = !local.starts_with('.') && !local.contains(['"', '@']);
    let is_name = |c: char| c.is_alphanumeric() || !c.is_ascii() || "-._".contains(c);
    is_plain
        && domain.chars().all(is_name)
        && EmailAddress::parse_with_options(&plain, options).is_ok()
        && matches!(Host::parse(domain), Ok(Host::Domain(_)))
}
