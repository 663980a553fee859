//! The claims of an answer, and the mutations that may leave a claim standing.
//!
//! The rule it keeps: an erasure, or its next step, rests on claims. Every other answer is doubt, and doubt is always
//! allowed.

use std::collections::BTreeSet;

use erasure_worker::job::{Answer, CodeState, Failure, FailureKind, Field, Identity, StepName};
use erasure_worker::sandbox::Operation;

use super::drive::Said;
use super::mutate::Mutation;

/// The claims of an answer. An erasure rests on those that begin with `gone`.
pub fn claims(step: StepName, said: &Said) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let Ok(answer) = said else { return found };
    let mut claim = |what: &str| {
        found.insert(what.to_owned());
    };
    match answer {
        // Revokes and overwrites are accepted with an empty reply, so nothing rests on that answer: every code and
        // every value is read back, as the complete runs show.
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

/// True if a failure counts against the person, although only a gateway answered.
pub fn blames_the_person(said: &Said) -> bool {
    matches!(
        said,
        Err(Failure { kind: FailureKind::Refused | FailureKind::Rejected | FailureKind::UnauthorisedTheirs(_), .. })
    )
}

/// The reason why a mutated reply may keep its claim. A mutation that is not listed here must remove it.
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
            Some("another e-mail beside the same id stays another e-mail, with any other content")
        }
        Operation::GetCustomer if what == "added" && place == "/data" => Some("a record may have unknown fields"),
        Operation::DeleteCustomer if within(&["/message", "/data"]) && what != "added" => {
            Some("`success` says success; its text and an empty `data` add nothing")
        }
        Operation::DeleteAccount if within(&["/INFO", "/OUTPUT/message"]) => {
            Some("`response_type` says success; INFO is not read")
        }
        Operation::CustomerExists
            if within(&["/INFO/"]) || (place == "/INFO" && matches!(what, "added" | "emptied")) =>
        {
            Some("INFO is not read")
        }
        Operation::UpdateSubscription if within(&["/result/expiresAt", "/jsonrpc", "/error"]) => {
            Some("`result` of our own call, with the offer and its status, is sufficient")
        }
        Operation::UpdateSubscription if what == "added" && place == "/result" => {
            Some("a result may have unknown fields")
        }
        Operation::TerminateSubscription | Operation::TerminatePass
            if within(&["/expiresAt", "/offerId"]) || what == "added" =>
        {
            Some("the resource with its id and its status is sufficient")
        }
        Operation::ListEntitlements | Operation::CustomerOffers
            if within(&["/items/", "/data/", "/responseData/items/"]) =>
        {
            Some("a row with an ended status is over, with any other content")
        }
        Operation::DeleteMember | Operation::DeleteProfile if within(&["/message"]) => Some("`success` says success"),
        Operation::GetCode if place != "code/deactivation-details" && (place != "code" || is_added) => {
            Some("the text of deactivation-details is sufficient; the request names the code")
        }
        Operation::GetCode if matches!(what, "retyped" | "paged" | "added") && place != "code" => {
            Some("the text is still within the element")
        }
        Operation::Licenses if within(&["licenses/license@sku", "licenses/license@type"]) => {
            Some("a licence with a past date has expired, with any other content")
        }
        Operation::Licenses if place == "licenses/license" && (is_added || what == "paged") => Some("as above"),
        Operation::Licenses if place == "licenses" && what == "emptied" => Some("an empty list in its other spelling"),
        Operation::Credentials if within(&["credentials/credential@email"]) || is_added || what == "text" => {
            Some("the token is beside the requested GUID or reference")
        }
        Operation::Credentials if within(&["credentials/credential@guid", "credentials/credential@reference"]) => {
            Some("the other one of the two still names the user")
        }
        Operation::GetUser if step == StepName::CheckLicenses && !within(&["user/reference"]) && place != "user" => {
            Some("of this read only the reference is used")
        }
        Operation::GetUser if what == "status" && matches!(place, "200" | "404") => {
            Some("v3 also gives errors on HTTP 200")
        }
        Operation::GetUser if what == "added" => Some("the value's own text is still there"),
        Operation::GetUser if within(&["user/affiliate"]) => Some(
            "the vendor does not document the affiliate in a user's record; if it is shown it must have the new value",
        ),
        Operation::GetUser if within(&["user/guid", "user/reference"]) || (place == "user" && is_added) => {
            Some("the request names the user by GUID, and no other user has the new values")
        }
        _ => None,
    }
}

/// Mutations that give another valid reply of the interface. No reader can recognise them; the complete runs show
/// their effect.
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
        (Operation::GetUser, "emptied" | "nulled") => Some("the vendor's form of an empty value"),
        _ => None,
    }
}
