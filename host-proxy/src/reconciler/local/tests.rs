use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use zlh_ids::InstanceId;

use super::*;

/// An agent in three lines: serves by holding its lock, and `down` is recorded.
const AGENT: &str = r#"#!/bin/sh
if [ "$1" = down ]; then echo "$ZLH_AGENT_VMID" >> "$ZLH_ARTIFACT_CACHE/downs"; exit 0; fi
mkdir -p "$ZLH_AGENT_ROOT/var/lib/zlh-agent"
exec flock -n -E 3 "$ZLH_AGENT_ROOT/var/lib/zlh-agent/agent.lock" sh -c 'echo up >> "$ZLH_ARTIFACT_CACHE/ups"'
"#;

fn driver(data_dir: &Path) -> Arc<LocalDriver> {
    let agent_binary = data_dir.join("agent");
    std::fs::write(&agent_binary, AGENT).unwrap();
    std::fs::set_permissions(&agent_binary, std::fs::Permissions::from_mode(0o755)).unwrap();
    LocalDriver::new(LocalSettings {
        data_dir: data_dir.to_owned(),
        agent_binary,
        agent_secret: "secret".to_owned(),
        own_users: false,
    })
    .unwrap()
}

fn container(vmid: u32) -> Container {
    Container {
        vmid: Vmid::new(vmid).unwrap(),
        instance: InstanceId::random(),
        // Any: no other program can hold it.
        ports: vec![0],
    }
}

#[tokio::test]
async fn a_container_of_an_earlier_life_is_never_reused() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let (first, second) = (container(6001), container(6001));
    let file = data.path().join("containers/6001/root/left-over");

    driver.create(&first).await.unwrap();
    std::fs::write(&file, "private").unwrap();
    driver.create(&first).await.unwrap();
    assert!(file.exists(), "the same life again changes nothing");
    driver.create(&second).await.unwrap();

    assert!(!file.exists());
    let found = Found { vmid: second.vmid, instance: Some(second.instance) };
    assert_eq!(driver.list().await.unwrap(), [found]);
    assert_eq!(
        std::fs::read_to_string(data.path().join("artifact-cache/downs")).unwrap(),
        "6001\n"
    );
}

#[tokio::test]
async fn half_a_container_is_made_anew() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    std::fs::create_dir_all(data.path().join("containers/6001/root")).unwrap();

    assert_eq!(driver.list().await.unwrap()[0].instance, None);
    driver.create(&container(6001)).await.unwrap();

    assert!(driver.list().await.unwrap()[0].instance.is_some());
}

#[tokio::test]
async fn removing_twice_is_the_same_as_once() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let container = container(6001);
    driver.create(&container).await.unwrap();

    driver.remove(&container).await.unwrap();
    driver.remove(&container).await.unwrap();
    driver.stop(&container).await.unwrap();

    assert!(driver.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_agent_is_not_started_where_one_lives() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let container = container(6001);
    driver.create(&container).await.unwrap();
    let state = data.path().join("containers/6001/root/var/lib/zlh-agent");
    std::fs::create_dir_all(&state).unwrap();
    let lock = std::fs::File::create(state.join("agent.lock")).unwrap();
    lock.lock().unwrap();

    assert!(!driver.revive(&container, 0).await.unwrap());
    drop(lock);
    assert!(driver.revive(&container, 0).await.unwrap());
}

#[tokio::test]
async fn a_container_is_begun_anew_once_for_each_time_that_was_wanted() {
    let data = tempfile::tempdir().unwrap();
    let container = container(6001);
    let downs = || {
        let downs = std::fs::read_to_string(data.path().join("artifact-cache/downs"));
        downs.unwrap_or_default().lines().count()
    };
    let before = driver(data.path());
    before.create(&container).await.unwrap();

    before.revive(&container, 0).await.unwrap();
    assert_eq!(downs(), 0);
    before.revive(&container, 2).await.unwrap();
    before.revive(&container, 2).await.unwrap();
    assert_eq!(downs(), 1);

    // Another zlh knows it, too.
    driver(data.path()).revive(&container, 2).await.unwrap();
    assert_eq!(downs(), 1);
    driver(data.path()).revive(&container, 3).await.unwrap();
    assert_eq!(downs(), 2);
}

#[tokio::test]
async fn a_port_that_another_program_holds_is_named() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = foreign.local_addr().unwrap().port();
    let container = Container { ports: vec![port], ..container(6001) };
    driver.create(&container).await.unwrap();

    let refused = driver.start(&container).await.unwrap_err();

    let wanted = format!("port {port}, which the container was given, is taken by another program");
    assert_eq!(refused.message, wanted);
    drop(foreign);
    driver.start(&container).await.unwrap();
}

#[tokio::test]
async fn a_stray_is_set_aside_unless_another_life_took_its_place() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let container = container(6001);
    driver.create(&container).await.unwrap();
    let stale = Found { vmid: container.vmid, instance: Some(InstanceId::random()) };
    let stray = Found { vmid: container.vmid, instance: Some(container.instance) };

    driver.set_aside(stale).await.unwrap();
    assert_eq!(driver.list().await.unwrap(), [stray]);
    driver.set_aside(stray).await.unwrap();

    assert!(driver.list().await.unwrap().is_empty());
    assert!(data.path().join(format!("set-aside/6001-{}", container.instance)).is_dir());
}

#[test]
fn a_data_folder_that_is_too_deep_for_sockets_is_refused_at_once() {
    let data = tempfile::tempdir().unwrap();
    let deep = data.path().join("a".repeat(80));

    let refused = LocalDriver::new(LocalSettings {
        data_dir: deep,
        agent_binary: "agent".into(),
        agent_secret: "secret".to_owned(),
        own_users: false,
    });

    assert!(refused.err().unwrap().to_string().contains("--data-dir"));
}

#[tokio::test]
async fn an_agent_that_cannot_end_itself_is_killed() {
    let data = tempfile::tempdir().unwrap();
    let driver = driver(data.path());
    let container = container(6001);
    driver.create(&container).await.unwrap();
    std::fs::write(
        data.path().join("agent"),
        "#!/bin/sh\n[ \"$1\" = down ] && exit 1\nexec sleep 1000",
    )
    .unwrap();
    driver.start(&container).await.unwrap();

    driver.remove(&container).await.unwrap();

    assert!(driver.list().await.unwrap().is_empty());
    let agent = driver.slot(container.vmid).await;
    assert!(agent.is_down, "nothing of it runs");
}
