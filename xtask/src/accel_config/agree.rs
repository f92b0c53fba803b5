//! What `accel-config list` and `dsascope doctor --json` say of the same devices, held against each other. Pure.
//!
//! Refuses: an attribute that either leaves out, where it is one of those that must be told.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// (accel-config's key, dsascope's, whether both must tell it).
type Attribute = (&'static str, &'static str, bool);

const DEVICE: [Attribute; 6] = [
    ("state", "state", true),
    ("version", "version", true),
    ("gen_cap", "gen_cap", true),
    ("event_log_size", "event_log_size", true),
    ("pasid_enabled", "pasid_enabled", true),
    ("numa_node", "numa_node", false),
];
const WORK_QUEUE: [Attribute; 11] = [
    ("state", "state", true),
    ("mode", "mode", true),
    ("size", "size", true),
    ("type", "type", true),
    ("name", "name", true),
    ("priority", "priority", true),
    ("group_id", "group", true),
    ("block_on_fault", "block_on_fault", true),
    ("prs_disable", "prs_disable", true),
    ("ats_disable", "ats_disable", true),
    // Of shared WQs alone.
    ("threshold", "threshold", false),
];

/// An object's attributes in one spelling: what a number is does not depend on how it is written.
type Attributes = BTreeMap<String, String>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Devices {
    devices: BTreeMap<String, Attributes>,
    work_queues: BTreeMap<String, Attributes>,
}

/// How many devices and WQs both told, and where they differ.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agreement {
    pub devices: usize,
    pub work_queues: usize,
    pub differences: Vec<String>,
}

/// Compares the two outputs.
pub fn compare(list: &str, doctor: &str) -> Result<Agreement> {
    let listed = of_accel_config(&serde_json::from_str(list).context("accel-config's list is not JSON")?);
    let found = of_doctor(&serde_json::from_str(doctor).context("the doctor's report is not JSON")?);
    let mut agreement = Agreement {
        devices: listed.devices.len(),
        work_queues: listed.work_queues.len(),
        ..Agreement::default()
    };
    // accel-config lists what is in use, the doctor everything.
    for (all, others, attributes) in [
        (&listed.devices, in_use(&found.devices), &DEVICE[..]),
        (&listed.work_queues, in_use(&found.work_queues), &WORK_QUEUE[..]),
    ] {
        for (name, one) in all {
            match others.get(name) {
                Some(other) => agreement.differences.extend(differences(name, one, other, attributes)),
                None => {
                    agreement.differences.push(format!("{name}: accel-config lists it, the doctor does not"));
                }
            }
        }
        for name in others.keys().filter(|name| !all.contains_key(*name)) {
            agreement.differences.push(format!("{name}: the doctor finds it, accel-config does not list it"));
        }
    }
    Ok(agreement)
}

/// Names of the devices that the doctor finds enabled.
pub fn enabled_devices(doctor: &str) -> Result<Vec<String>> {
    let found = of_doctor(&serde_json::from_str(doctor).context("the doctor's report is not JSON")?);
    Ok(in_use(&found.devices).into_keys().collect())
}

fn in_use(all: &BTreeMap<String, Attributes>) -> BTreeMap<String, Attributes> {
    let enabled = |one: &Attributes| one.get("state").is_some_and(|state| state == "enabled");
    all.iter().filter(|(_, one)| enabled(one)).map(|(name, one)| (name.clone(), one.clone())).collect()
}

fn differences(name: &str, listed: &Attributes, found: &Attributes, attributes: &[Attribute]) -> Vec<String> {
    let differ = |(key, own, must): &Attribute| match (listed.get(*key), found.get(*own)) {
        (Some(listed), Some(found)) if listed == found => None,
        (None, _) | (_, None) if !must => None,
        (listed, found) => {
            Some(format!("{name} {key}: accel-config says {listed:?}, the doctor says {found:?}"))
        }
    };
    attributes.iter().filter_map(differ).collect()
}

/// An array of devices, in each its groups with their WQs, and WQs without a group.
fn of_accel_config(list: &Value) -> Devices {
    let mut devices = Devices::default();
    for device in elements(list) {
        devices.devices.extend(named(device, "dev"));
        let of_groups = elements(&device["groups"]).flat_map(|group| elements(&group["grouped_workqueues"]));
        let all = of_groups.chain(elements(&device["ungrouped_workqueues"]));
        devices.work_queues.extend(all.filter_map(|wq| named(wq, "dev")));
    }
    devices
}

/// One object, in its facts the devices, in each its WQs.
fn of_doctor(report: &Value) -> Devices {
    let mut devices = Devices::default();
    for device in elements(&report["facts"]["devices"]) {
        let Some((name, attributes)) = named(device, "device") else { continue };
        let number = name.trim_start_matches(|c: char| !c.is_ascii_digit());
        let of_device = elements(&device["wqs"]);
        devices.work_queues.extend(of_device.filter_map(|wq| {
            let (id, attributes) = named(wq, "wq")?;
            Some((format!("wq{number}.{id}"), attributes))
        }));
        devices.devices.insert(name.clone(), attributes);
    }
    devices
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn named(object: &Value, key: &str) -> Option<(String, Attributes)> {
    let attributes: Attributes =
        object.as_object()?.iter().filter_map(|(key, value)| Some((key.clone(), plain(value)?))).collect();
    Some((attributes.get(key)?.clone(), attributes))
}

/// A value as text: numbers in decimal, switches as 0 and 1.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Bool(on) => Some(u8::from(*on).to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => {
            let number = text.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            Some(number.map_or_else(|| text.clone(), |number| number.to_string()))
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[{"dev":"dsa0","state":"enabled","version":"0x200","gen_cap":"0x40915f0107","event_log_size":64,
        "pasid_enabled":1,"groups":[{"dev":"group0.0","grouped_workqueues":[{"dev":"wq0.1","mode":"shared","size":16,"group_id":0,
        "priority":10,"block_on_fault":0,"type":"user","name":"app","threshold":12,"ats_disable":0,"prs_disable":1,
        "state":"enabled"}]}]}]"#;
    const DOCTOR: &str = r#"{"facts":{"devices":[{"device":"dsa0","state":"enabled","version":512,"gen_cap":277316829447,
        "event_log_size":64,"pasid_enabled":true,"numa_node":null,"wqs":[
        {"wq":0,"state":"disabled","type":"none","mode":"dedicated","size":0},
        {"wq":1,"state":"enabled","type":"user","name":"app","mode":"shared","size":16,"threshold":12,"priority":10,"group":0,
         "block_on_fault":false,"prs_disable":true,"ats_disable":false}]}]}}"#;

    fn found(list: &str, doctor: &str) -> Vec<String> {
        compare(list, doctor).unwrap().differences
    }

    #[test]
    fn the_same_in_two_spellings_agrees() {
        let agreement = compare(LIST, DOCTOR).unwrap();
        assert_eq!(agreement, Agreement { devices: 1, work_queues: 1, differences: vec![] });
        assert_eq!(enabled_devices(DOCTOR).unwrap(), ["dsa0"]);
    }

    #[test]
    fn every_attribute_counts() {
        for (from, to, names) in [
            ("\"size\":16", "\"size\":8", "wq0.1 size"),
            ("\"mode\":\"shared\"", "\"mode\":\"dedicated\"", "wq0.1 mode"),
            ("\"prs_disable\":1", "\"prs_disable\":0", "wq0.1 prs_disable"),
            ("\"threshold\":12", "\"threshold\":16", "wq0.1 threshold"),
            ("\"event_log_size\":64,", "", "dsa0 event_log_size"),
            ("\"version\":\"0x200\"", "\"version\":\"0x100\"", "dsa0 version"),
            ("\"dev\":\"wq0.1\"", "\"dev\":\"wq0.2\"", "wq0.1: the doctor finds it"),
            ("\"dev\":\"dsa0\"", "\"dev\":\"dsa1\"", "dsa1: accel-config lists it"),
        ] {
            let list = LIST.replacen(from, to, 1);
            assert_ne!(list, LIST, "{from}");
            let differences = found(&list, DOCTOR);
            assert!(differences.iter().any(|text| text.contains(names)), "{to}: {differences:?}");
        }
    }

    #[test]
    fn nothing_agrees_with_nothing() {
        let agreement = compare("[]", "{}").unwrap();
        assert_eq!((agreement.devices, agreement.work_queues), (0, 0));
        assert!(compare("no devices", DOCTOR).is_err());
    }
}
