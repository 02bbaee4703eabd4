//! What a machine that asks for its script gets: a kernel, or the menu.

use super::catalog::{Catalog, Group, Profile};
use super::labels::{self, Labels};
use crate::decisions::inventory::Entry;
use crate::wire::Role;

/// The answer to `/ipxe`.
#[must_use]
#[derive(Clone, Debug)]
pub enum Answer<'a> {
    /// Boot this profile.
    Kernel {
        /// What to boot.
        profile: &'a Profile,
        /// The role that the machine asked for and now has.
        chosen: Option<&'a str>,
    },
    /// Let somebody choose.
    Menu,
}

/// Decides from what the machine says of itself, the role it is known to have, what the inventory
/// says of it, and the catalog.
pub fn answer<'a>(
    labels: &'a Labels,
    remembered: Option<&Role>,
    inventory: Option<&Entry>,
    catalog: &'a Catalog,
) -> Answer<'a> {
    match group(labels, remembered, inventory, catalog) {
        Some(group) => Answer::Kernel {
            profile: &group.profile,
            chosen: labels.role().filter(|_| group.selects_by(labels::TYPE)),
        },
        None => Answer::Menu,
    }
}

/// The group of a machine.
///
/// A role asked for by name counts. Without one (`type=auto` or no type) the remembered role is
/// tried first, or if there is none the inventory's; then the labels alone. The inventory's labels
/// join those of the machine.
pub fn group<'a>(
    labels: &Labels,
    remembered: Option<&Role>,
    inventory: Option<&Entry>,
    catalog: &'a Catalog,
) -> Option<&'a Group> {
    let all = inventory.map_or_else(|| labels.clone(), |entry| labels.with_inventory(entry));
    known_role(remembered, inventory)
        .filter(|_| labels.role().is_none())
        .and_then(|role| catalog.select(&all.with_role(role.as_str())))
        .or_else(|| catalog.select(&all))
}

/// The role that a machine has before it asks for one: what was chosen or assigned counts before
/// what the inventory planned.
pub fn known_role<'a>(
    remembered: Option<&'a Role>,
    inventory: Option<&'a Entry>,
) -> Option<&'a Role> {
    remembered.or_else(|| inventory?.role.as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::catalog::{JsonFile, default_groups, default_profiles};
    use super::*;

    fn ask(query: &str, remembered: Option<&str>) -> Option<(String, Option<String>)> {
        ask_with(query, remembered, None)
    }

    fn ask_with(
        query: &str,
        remembered: Option<&str>,
        inventory: Option<&Entry>,
    ) -> Option<(String, Option<String>)> {
        let mut groups = default_groups();
        for selector in [
            r#"{"mac": "525400000001"}"#,
            r#"{"rack": "1", "hostname": "n1"}"#,
            r#"{"rack": "1", "serial": "s", "type": "controlplane"}"#,
        ] {
            groups.push(JsonFile {
                path: "one.json".to_owned(),
                text: format!(r#"{{"profile": "worker", "selector": {selector}}}"#),
            });
        }
        let catalog = Catalog::parse(&groups, &default_profiles()).unwrap();
        let labels = Labels::from_query(query).unwrap();
        let remembered = remembered.map(|role| role.parse().unwrap());
        match answer(&labels, remembered.as_ref(), inventory, &catalog) {
            Answer::Kernel { profile, chosen } => {
                Some((profile.id.clone(), chosen.map(str::to_owned)))
            }
            Answer::Menu => None,
        }
    }

    fn boots(profile: &str, chosen: Option<&str>) -> Option<(String, Option<String>)> {
        Some((profile.to_owned(), chosen.map(str::to_owned)))
    }

    #[test]
    fn an_unknown_machine_gets_the_menu() {
        assert_eq!(ask("type=auto", None), None);
        assert_eq!(ask("", None), None);
        assert_eq!(ask("type=nonsense", None), None);
    }

    #[test]
    fn a_choice_is_remembered() {
        assert_eq!(ask("type=worker", None), boots("worker", Some("worker")));
        assert_eq!(ask("type=auto", Some("worker")), boots("worker", None));
        assert_eq!(ask("", Some("controlplane")), boots("controlplane", None));
    }

    #[test]
    fn a_new_choice_counts_before_an_old_one() {
        assert_eq!(ask("type=worker", Some("controlplane")), boots("worker", Some("worker")));
    }

    #[test]
    fn a_machine_with_its_own_group_needs_no_role() {
        assert_eq!(ask("mac=52-54-00-00-00-01&type=auto", None), boots("worker", None));
        assert_eq!(ask("mac=52-54-00-00-00-01&type=junk", None), boots("worker", None));
        assert_eq!(ask("mac=52-54-00-00-00-01", Some("gone")), boots("worker", None));
    }
    #[test]
    fn the_inventorys_role_counts_until_another_is_chosen() {
        let role = Some("controlplane".parse().unwrap());
        let entry = Entry { role, ..Entry::default() };
        let ask = |query, remembered| ask_with(query, remembered, Some(&entry));
        assert_eq!(ask("type=auto", None), boots("controlplane", None));
        assert_eq!(ask("", None), boots("controlplane", None));
        assert_eq!(ask("type=auto", Some("worker")), boots("worker", None));
        assert_eq!(ask("type=worker", None), boots("worker", Some("worker")));
    }

    #[test]
    fn the_inventorys_labels_select_and_count_before_the_machines_own() {
        let mut entry = Entry { hostname: Some("n1".parse().unwrap()), ..Entry::default() };
        entry.labels.insert("rack".to_owned(), "1".to_owned());
        let ask = |query, remembered| ask_with(query, remembered, Some(&entry));
        assert_eq!(ask("hostname=liar&rack=9&type=auto", None), boots("worker", None));
        assert_eq!(ask_with("hostname=n1&type=auto", None, None), None);
        let entry = Entry { hostname: None, ..entry };
        let ask = |query| ask_with(query, Some("controlplane"), Some(&entry));
        assert_eq!(ask("serial=s"), boots("worker", None), "rack, serial and type");
        assert_eq!(ask("serial=x"), boots("controlplane", None), "type alone");
    }
}
