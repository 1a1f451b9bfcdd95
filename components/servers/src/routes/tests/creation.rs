use zlh_agent_protocol::internal::{InstanceSpec, Workload};

use super::*;

fn dev() -> Value {
    json!({ "ctype": "dev", "runtime": "node", "version": "24" })
}

fn dev_with(field: &str, value: Value) -> Value {
    let mut body = dev();
    body[field] = value;
    body
}

impl World {
    async fn create_as(&self, user: UserId, key: &str, body: &Value) -> Answer {
        let request = Request::post("/api/instances")
            .header("authorization", format!("Bearer {user}"))
            .header("content-type", "application/json")
            .header("idempotency-key", key);
        self.send(request, body.to_string()).await
    }

    async fn wants_code_server(&self) -> bool {
        let row = &self.sql("SELECT spec FROM instances", &[]).await[0];
        let spec: InstanceSpec = row.json(0).unwrap();
        matches!(spec.workload, Workload::Dev { enable_code_server: true, .. })
    }

    pub(super) async fn create(&self, key: &str, body: &Value) -> Answer {
        self.create_as(self.owner, key, body).await
    }
}

#[tokio::test]
async fn a_creation_is_recorded_and_goes_on_later() {
    let world = World::new().await;

    let answer = world.create("click-1", &dev()).await;

    assert_eq!(answer.status, StatusCode::ACCEPTED);
    let operation = answer.body["operationId"].as_str().unwrap();
    let url = format!("/api/operations/{operation}");
    assert_eq!(answer.body, json!({ "operationId": operation, "statusUrl": url, "vmid": 6000 }));
    assert_eq!(answer.headers["location"], url.as_str());
    let progress = world.get(&url).await.body;
    assert_eq!((&progress["kind"], &progress["status"]), (&json!("create"), &json!("queued")));

    let instance = world.get("/api/instances/6000").await.body;
    for (field, wanted) in [
        ("name", json!("dev-6000")),
        ("state", json!("creating")),
        ("status", json!("creating")),
        ("memoryMiB", json!(2048)),
        ("cpuCores", json!(2)),
        ("ready", json!(false)),
        ("agentStatus", json!("offline")),
        ("readyAt", Value::Null),
    ] {
        assert_eq!(instance[field], wanted, "{field}");
    }
    assert!(world.wants_code_server().await);
    let act = &world.sql("SELECT actor, action, target FROM audit_log", &[]).await[0];
    let act: [String; 3] = [0, 1, 2].map(|column| act.get(column).unwrap());
    assert_eq!(act, [world.owner.to_string(), "instance.create".to_owned(), "6000".to_owned()]);
}

#[tokio::test]
async fn what_is_asked_for_is_what_is_recorded() {
    let world = World::new().await;
    let body = json!({
        "container_type": "dev", "runtime": "python", "version": "3.13", "name": "Ünï ✨", "memoryMiB": 16384,
        "cpuCores": 16, "enableCodeServer": false,
    });

    let vmid = world.create("k", &body).await.body["vmid"].clone();

    let instance = world.get(&format!("/api/instances/{vmid}")).await.body;
    for field in ["name", "runtime", "version", "memoryMiB", "cpuCores"] {
        assert_eq!(instance[field], body[field], "{field}");
    }
    assert!(!world.wants_code_server().await);
}

#[tokio::test]
async fn fields_of_the_contract_that_change_nothing_are_taken() {
    let world = World::new().await;
    let mut body = dev_with("customerId", json!(world.owner));
    body["portsNeeded"] = json!(0);
    for field in ["game", "variant", "world"] {
        body[field] = Value::Null;
    }

    assert_eq!(world.create("k", &body).await.status, StatusCode::ACCEPTED);

    for (field, value) in [
        ("customerId", json!(UserId::random())),
        ("customerId", json!("me")),
        ("portsNeeded", json!(1)),
        ("game", json!("minecraft")),
        ("variant", json!("paper")),
        ("world", json!("overworld")),
    ] {
        let answer = world.create("other", &dev_with(field, value)).await;
        assert_eq!(
            (answer.status, &answer.body["field"]),
            (StatusCode::BAD_REQUEST, &json!(field))
        );
    }
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_by_name() {
    let world = World::new().await;
    for (body, field, says) in [
        (json!({}), "ctype", "must be `dev` or `game`"),
        (dev_with("ctype", json!("vm")), "ctype", "must be `dev` or `game`"),
        (json!({ "ctype": "dev" }), "runtime", "must be one of node, python"),
        (dev_with("runtime", json!("cobol")), "runtime", "must be one of node, python"),
        (dev_with("version", json!("20")), "version", "must be one of 24, 22"),
        (dev_with("name", json!("")), "name", "must have 1 to 64 printable characters"),
        (dev_with("name", json!("a\u{7}b")), "name", "must have 1 to 64 printable characters"),
        (dev_with("name", json!("x".repeat(65))), "name", "must have 1 to 64 printable characters"),
        (dev_with("memoryMiB", json!(255)), "memoryMiB", "must be from 256 to 16384"),
        (dev_with("memoryMiB", json!(16_385)), "memoryMiB", "must be from 256 to 16384"),
        (dev_with("cpuCores", json!(0)), "cpuCores", "must be from 1 to 16"),
        (dev_with("cpuCores", json!(17)), "cpuCores", "must be from 1 to 16"),
        (
            dev_with("addons", json!(["codeserver", "vim"])),
            "addons",
            "the one add-on is `codeserver`",
        ),
    ] {
        let answer = world.create("k", &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(
            (&answer.body["field"], &answer.body["error"]),
            (&json!(field), &json!(says)),
            "{body}"
        );
    }
    for body in [dev_with("customerId", json!("u1")), dev_with("owner_id", json!("u1")), json!([])]
    {
        assert_eq!(world.create("k", &body).await.status, StatusCode::BAD_REQUEST, "{body}");
    }
    assert_eq!(world.count("instances").await, 0);
}

#[tokio::test]
async fn an_addon_is_another_way_to_want_code_server() {
    let world = World::new().await;
    let mut body = dev_with("addons", json!(["codeserver"]));
    body["enable_code_server"] = json!(false);

    assert_eq!(world.create("k", &body).await.status, StatusCode::ACCEPTED);

    assert!(world.wants_code_server().await);
}

#[tokio::test]
async fn code_server_must_be_in_the_catalogue_to_be_wanted() {
    let mut world = World::new().await;
    world.servers.catalog =
        Arc::new(FakeCatalog(Some(DevCatalog { addons: Vec::new(), ..catalog() })));

    let wanted = world.create("k", &dev()).await;
    let unwanted = world.create("k", &dev_with("enable_code_server", json!(false))).await;

    assert_eq!(
        (wanted.status, &wanted.body["field"]),
        (StatusCode::BAD_REQUEST, &json!("enable_code_server"))
    );
    assert_eq!(unwanted.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn the_same_request_again_is_the_same_instance() {
    let mut world = World::new().await;
    let first = world.create("click-1", &dev()).await;
    world.servers.catalog = Arc::new(FakeCatalog(None));

    let again = world
        .create("click-1", &json!({ "version": "24", "runtime": "node", "ctype": "dev" }))
        .await;
    let other = world.create("click-1", &dev_with("name", json!("other"))).await;

    assert_eq!((again.status, &again.text), (StatusCode::ACCEPTED, &first.text));
    assert_eq!(again.headers["location"], first.headers["location"]);
    assert_eq!(other.status, StatusCode::CONFLICT);
    assert_eq!((world.count("instances").await, world.count("audit_log").await), (1, 1));
}

#[tokio::test]
async fn a_key_belongs_to_its_user() {
    let world = World::new().await;
    let other = world.user("other").await;

    let mine = world.create("click-1", &dev()).await;
    let theirs = world.create_as(other, "click-1", &dev()).await;

    assert_eq!((&mine.body["vmid"], &theirs.body["vmid"]), (&json!(6000), &json!(6001)));
}

#[tokio::test]
async fn a_key_is_one_header_of_visible_characters() {
    let world = World::new().await;
    let longest = "k".repeat(255);
    let too_long = "k".repeat(256);
    for (keys, wanted) in [
        (vec![longest.as_str()], StatusCode::ACCEPTED),
        (vec![too_long.as_str()], StatusCode::BAD_REQUEST),
        (vec![], StatusCode::ACCEPTED),
        (vec![""], StatusCode::BAD_REQUEST),
        (vec!["a b"], StatusCode::BAD_REQUEST),
        (vec!["ä"], StatusCode::BAD_REQUEST),
        (vec!["a", "b"], StatusCode::BAD_REQUEST),
    ] {
        let mut request = Request::post("/api/instances")
            .header("authorization", format!("Bearer {}", world.owner))
            .header("content-type", "application/json");
        for key in &keys {
            request = request.header("idempotency-key", key.as_bytes());
        }
        let answer = world.send(request, dev().to_string()).await;
        assert_eq!(answer.status, wanted, "{keys:?}");
    }
}

#[tokio::test]
async fn there_is_an_end_to_what_one_customer_may_have() {
    let world = World::new().await;
    let other = world.user("other").await;
    for key in ["1", "2", "3"] {
        assert_eq!(world.create(key, &dev()).await.status, StatusCode::ACCEPTED);
    }

    let fourth = world.create("4", &dev()).await;

    assert_eq!(fourth.status, StatusCode::CONFLICT);
    assert_eq!(
        world.create("3", &dev()).await.status,
        StatusCode::ACCEPTED,
        "a repetition is no other"
    );
    assert_eq!(world.create_as(other, "4", &dev()).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_vmid_is_not_used_again_right_after_it_was_freed() {
    let world = World::new().await;
    world.create("1", &dev()).await;
    world.sql("DELETE FROM instances", &[]).await;
    assert_eq!(world.create("2", &dev()).await.body["vmid"], 6001);

    world.sql("UPDATE vmid_counters SET last = 6999", &[]).await;
    assert_eq!(
        world.create("3", &dev()).await.body["vmid"],
        6000,
        "after the last comes the first"
    );
    world.sql("UPDATE vmid_counters SET last = 6000", &[]).await;
    assert_eq!(world.create("4", &dev()).await.body["vmid"], 6002, "6001 is taken");
}

#[tokio::test]
async fn without_a_free_vmid_nothing_can_be_created() {
    let mut world = World::new().await;
    world.servers.max_instances_per_user = 2_000;
    for vmid in crate::model::vmids(zlh_ids::ContainerType::Dev) {
        world.seed(vmid, 1).await;
    }

    let answer = world.create("1", &dev()).await;

    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.count("operations").await, 0);
}

#[tokio::test]
async fn the_artifact_store_must_answer() {
    let mut world = World::new().await;
    world.servers.catalog = Arc::new(FakeCatalog(None));

    assert_eq!(world.create("1", &dev()).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(world.count("instances").await, 0);
}

#[tokio::test]
async fn an_instance_that_is_being_created_cannot_be_deleted_yet() {
    let world = World::new().await;
    world.create("1", &dev()).await;

    let answer = world.delete(6000).await;

    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.body["error"], "the instance is still being created");
}
