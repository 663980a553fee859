//! What an answer claims, and which mutations of a reply take nothing from it.
//!
//! The rule it keeps: a claim is what an erasure, or its going on, is founded on. Whatever else a client
//! says is doubt, and doubt is always allowed.

use std::collections::BTreeSet;

use erasure_worker::job::{Answer, CodeState, Failure, FailureKind, Field, Identity, StepName};
use erasure_worker::sandbox::Operation;

use super::drive::Said;
use super::mutate::Mutation;

/// The claims of an answer. Those that begin with `gone` are what an erasure is founded on.
pub fn claims(step: StepName, said: &Said) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(answer) = said else { return found };
    let mut claim = |what: &str| {
        found.insert(what.to_owned());
    };
    match answer {
        // A revoke and an overwrite are accepted with an empty reply, so nothing is founded on that: every code
        // and every value is read back, as the runs to the end show.
        Answer::Done | Answer::AlreadyDone if matches!(step, StepName::RevokeCode | StepName::OverwriteUser) => {}
        Answer::Done | Answer::AlreadyDone if step.is_destructive() => claim("gone: done"),
        Answer::Missing(_) => claim("gone: nobody is there"),
        Answer::Found(Identity::Blank) => claim("gone: the record is blank"),
        Answer::Found(Identity::Other) if step == StepName::ReadBack => claim("gone: another stands there"),
        Answer::Found(Identity::Same) => claim("the person named"),
        Answer::User { identity, fields, .. } => {
            if *identity == Identity::Same {
                claim("the person named");
            }
            for field in Field::ALL.iter().filter(|field| !fields.contains(field)) {
                claim(&format!("less: nothing in {}", field.as_str()));
            }
        }
        Answer::Code { state, owner } => {
            match state {
                CodeState::Cancelled => claim("gone: the code is cancelled"),
                CodeState::Unknown => claim("gone: there is no such code"),
                CodeState::Active => {}
            }
            if *owner == Identity::Same {
                claim("the person's code");
            }
        }
        Answer::Licenses { unexpired } => {
            (*unexpired..4).for_each(|most| claim(&format!("less: at most {most} licences")));
            if *unexpired == 0 {
                claim("gone: no licence");
            }
        }
        Answer::Entitlements(rows) => {
            let count = rows.iter().filter(|row| row.gives_access).count();
            (count..4).for_each(|most| claim(&format!("less: at most {most} give access")));
            if count == 0 {
                claim("gone: nothing gives access");
            }
        }
        Answer::Values { stand: true } => claim("gone: the new values stand"),
        _ => {}
    }
    found
}

/// A failure that is put down to the person, where nothing but a gateway spoke.
pub fn blames_the_person(said: &Said) -> bool {
    matches!(
        said,
        Err(Failure { kind: FailureKind::Refused | FailureKind::Rejected | FailureKind::UnauthorisedTheirs(_), .. })
    )
}

/// Why a mutated reply still says what it said. Everything that is not listed here must lose its claim.
pub fn is_neutral(step: StepName, operation: Operation, mutation: &Mutation) -> Option<&'static str> {
    let (what, place) = (mutation.what, mutation.place.as_str());
    let within = |names: &[&str]| names.iter().any(|name| place.starts_with(name));
    let is_added = matches!(what, "added" | "retyped");
    match operation {
        _ if what == "content_type" => Some("no vendor documents the type of a reply; the body decides"),
        Operation::GetCustomer if place == "/success" && matches!(what, "removed" | "nulled") => {
            Some("Core's documented error is its message alone; a record says nothing by it")
        }
        Operation::GetCustomer if within(&["/message", "/data/firstName", "/data/lastName", "/data/externalId"]) => {
            Some("another e-mail beside the same id is another e-mail, whatever else the record holds")
        }
        Operation::GetCustomer if what == "added" && place == "/data" => Some("a record may hold more than is known"),
        Operation::DeleteCustomer if within(&["/message", "/data"]) && what != "added" => {
            Some("success is told by `success`; its text and an empty `data` add nothing")
        }
        Operation::DeleteAccount if within(&["/INFO", "/OUTPUT/message"]) => {
            Some("success is told by `response_type`; nobody reads what is in INFO")
        }
        Operation::CustomerExists
            if within(&["/INFO/"]) || (place == "/INFO" && matches!(what, "added" | "emptied")) =>
        {
            Some("nobody reads what is in INFO")
        }
        Operation::UpdateSubscription if within(&["/result/expiresAt", "/jsonrpc", "/error"]) => {
            Some("`result` of our own call, with the offer and its status, says it all")
        }
        Operation::UpdateSubscription if what == "added" && place == "/result" => {
            Some("a result may hold more than is known")
        }
        Operation::TerminateSubscription | Operation::TerminatePass
            if within(&["/expiresAt", "/offerId"]) || what == "added" =>
        {
            Some("the bare resource, by its id and its status, says it all")
        }
        Operation::ListEntitlements | Operation::CustomerOffers
            if within(&["/items/", "/data/", "/responseData/items/"]) =>
        {
            Some("a row that says that it ended is over, whatever else it holds")
        }
        Operation::DeleteMember | Operation::DeleteProfile if within(&["/message"]) => {
            Some("success is told by `success`")
        }
        Operation::GetCode if place != "code/deactivation-details" && (place != "code" || is_added) => {
            Some("the text of deactivation-details says it; the request names the code")
        }
        Operation::GetCode if matches!(what, "retyped" | "paged" | "added") && place != "code" => {
            Some("the text is still within the element")
        }
        Operation::Licenses if within(&["licenses/license@sku", "licenses/license@type"]) => {
            Some("a date that has passed says that a licence expired, whatever else the row holds")
        }
        Operation::Licenses if place == "licenses/license" && (is_added || what == "paged") => Some("as above"),
        Operation::Licenses if place == "licenses" && what == "emptied" => Some("an empty list in its other spelling"),
        Operation::Credentials if within(&["credentials/credential@email"]) || is_added || what == "text" => {
            Some("the token stands beside the GUID or the reference that was asked for")
        }
        Operation::Credentials if within(&["credentials/credential@guid", "credentials/credential@reference"]) => {
            Some("the other one of the two still names the user")
        }
        Operation::GetUser if step == StepName::CheckLicenses && !within(&["user/reference"]) && place != "user" => {
            Some("of this read only the reference is used")
        }
        Operation::GetUser if what == "status" && matches!(place, "200" | "404") => {
            Some("v3 tells its errors on HTTP 200 as well")
        }
        Operation::GetUser if what == "added" => Some("a value's own text stands beside it"),
        Operation::GetUser if within(&["user/affiliate"]) => {
            Some("the vendor does not list the affiliate among what a user reads with; where it is shown it must stand")
        }
        Operation::GetUser if within(&["user/guid", "user/reference"]) || (place == "user" && is_added) => {
            Some("the request names the user by GUID, and the new values are nobody else's")
        }
        _ => None,
    }
}

/// Mutations that make of a reply another whole statement, which the interface gives in just this form. No
/// reader can tell them from it; what is founded on them is shown by the runs to the end.
pub fn is_another_statement(operation: Operation, mutation: &Mutation) -> Option<&'static str> {
    let (what, place) = (mutation.what, mutation.place.as_str());
    let is_row = place.trim_end_matches(|c: char| c.is_ascii_digit()).ends_with("s/") || place.starts_with("/data/");
    match (operation, what) {
        (Operation::CustomerExists, "retyped") if place == "/OUTPUT/TOTAL_COUNT" => Some("another count"),
        (Operation::ListEntitlements | Operation::ListCustomers | Operation::CustomerOffers, "removed") if is_row => {
            Some("a list without that row")
        }
        (Operation::ListEntitlements | Operation::ListCustomers, "emptied") if matches!(place, "/items" | "/data") => {
            Some("an empty list")
        }
        (Operation::CustomerOffers, "emptied") if place == "/responseData/items" => Some("an empty list"),
        (Operation::Licenses, "removed") if place == "licenses/license" => Some("a list without that row"),
        (Operation::Licenses, "emptied") if place == "licenses" => Some("an empty list"),
        (Operation::GetUser, "emptied" | "nulled") => {
            Some("an empty element is how the vendor says that nothing is stored")
        }
        _ => None,
    }
}
