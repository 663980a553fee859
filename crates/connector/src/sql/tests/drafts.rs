//! A draft from the foreign keys.

use super::{faults, load};
use crate::sql::{Catalogue, Database, Reference, TableInfo, draft, show};

fn shop() -> Catalogue {
    let table = |name: &str, columns: &[(&str, bool)]| TableInfo {
        name: name.to_owned(),
        columns: columns.iter().map(|(name, is_number)| ((*name).to_owned(), *is_number)).collect(),
    };
    let refers = |from: &str, column: &str, to: &str| Reference {
        from: from.to_owned(),
        column: column.to_owned(),
        to: to.to_owned(),
        key: "id".to_owned(),
    };
    Catalogue {
        home: Some("public".to_owned()),
        tables: vec![
            table("public.users", &[("id", true), ("email", false)]),
            table("public.orders", &[("id", true), ("user_id", true)]),
            table("public.notes", &[("order_id", true)]),
            table("public.letters", &[("email", false)]),
        ],
        references: vec![
            refers("public.orders", "user_id", "public.users"),
            refers("public.notes", "order_id", "public.orders"),
            // To itself: no way to another table.
            refers("public.orders", "parent", "public.orders"),
        ],
    }
}

#[test]
fn a_draft_loads_after_its_gaps_are_filled() {
    let text = draft(Database::Postgresql, &shop(), "public.users", "id").unwrap();
    assert!(text.contains("#   public.letters"), "{text}");
    let gaps = faults(&text);
    let places: Vec<_> = gaps.iter().map(|fault| fault.place.as_str()).collect();
    assert_eq!(places, ["name", "act.erase.statements[0].most", "act.erase.statements[1].most"], "{gaps:?}");
    let filled = text.replace("\"FILL: a name for events\"", "\"shop\"").replace("\"FILL\"", "100");
    let shown = show(&load(&filled));
    let [notes, orders, users] = ["from public.notes", "from public.orders where user_id", "from public.users"]
        .map(|part| shown.find(&format!("delete {part}")).unwrap_or_else(|| panic!("{part} is not in\n{shown}")));
    assert!(notes < orders && orders < users, "{shown}");
}

#[test]
fn a_draft_needs_a_table_with_that_key() {
    assert_eq!(draft(Database::Postgresql, &shop(), "public.nobody", "id"), None);
    assert_eq!(draft(Database::Postgresql, &shop(), "public.users", "number"), None);
    let text = draft(Database::Postgresql, &shop(), "public.users", "email").unwrap();
    assert!(text.contains("identifiers = { email = { type = \"email\", required = true } }"), "{text}");
    assert!(text.contains("select email from public.users where email = $email"), "{text}");
}
