use super::*;
use dsascope_core::event::{Comm, DeviceId, DeviceKind, DriverEvent, Happening, Open};

const HOSTILE: &str = "<script>alert(1)</script><img src=x onerror=a>\"'&";

fn page_of(events: &[Event]) -> String {
    let (mut model, mut report) = (Model::default(), Report::default());
    for event in events {
        model.update(event);
        report.event(event);
    }
    page(&model, &report)
}

#[test]
fn text_from_outside_is_text() {
    let session = SessionInfo {
        host: HOSTILE.into(),
        kernel: HOSTILE.into(),
        tool_version: HOSTILE.into(),
        ..SessionInfo::default()
    };
    let context = dsascope_core::event::Context {
        device: DeviceId::new(DeviceKind::Dsa, 0),
        wq: 0,
        pasid: 1,
        opened_ns: None,
    };
    let open = Open {
        at_ns: 5,
        context,
        tgid: 1,
        tid: 1,
        cgroup: None,
        cgroup_path: Some(HOSTILE.into()),
        comm: Comm::new("<b onload=x>"),
        file: 0,
        files: 1,
        existing: false,
    };
    let warning = DriverEvent {
        at_ns: 6,
        cpu: 0,
        device: context.device,
        tgid: 1,
        tid: 1,
        comm: Comm::new("<i>"),
        what: Happening::Warning { text: format!("Failed to service fault work {HOSTILE}") },
    };
    let page = page_of(&[Event::Session(Box::new(session)), Event::Open(open), Event::Driver(warning)]);
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b onload"), "{page}");
    assert!(page.contains("&lt;script&gt;") && page.contains("&lt;b onload=x&gt;"));
}

#[test]
fn nothing_seen_makes_a_page_too() {
    let page = page_of(&[]);
    assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>"));
    assert!(page.contains("Nothing was found") && page.contains("default-src 'none'"));
}

#[test]
fn nothing_is_fetched() {
    let page = page_of(&[]);
    for way in ["http", "url(", "@import", " src=", "href=", "<script", "<link"] {
        let found = page.matches(way).count() - page.matches(&format!("{way}-equiv")).count();
        assert_eq!(found, 0, "{way}");
    }
}

#[test]
fn digits_are_grouped() {
    for (count, text) in
        [(0, "0"), (999, "999"), (1000, "1 000"), (1_234_567, "1 234 567"), (12_345, "12 345")]
    {
        assert_eq!(grouped(count).replace('\u{202f}', " "), text);
    }
}
