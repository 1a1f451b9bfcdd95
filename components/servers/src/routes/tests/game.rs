use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::internal::{InstanceSpec, Workload};

use super::*;

const VMID: u32 = 5001;

fn game() -> Value {
    json!({ "ctype": "game", "game": "openttd", "variant": "vanilla", "version": "13.0" })
}

fn game_with(field: &str, value: Value) -> Value {
    let mut body = game();
    body[field] = value;
    body
}

impl World {
    /// An active game server of the owner, with two ports of its own.
    async fn seed_game(&self) -> InstanceId {
        let instance = self.seed(VMID, 0).await;
        let spec = r#"{"ctype":"game","game":"openttd","variant":"vanilla","version":"13.0","world":"w","ports":2,
            "memoryMib":512,"cpuCores":1}"#;
        self.sql(
            "UPDATE instances SET ctype = 'game', spec = $1, agent_address = '127.0.0.1:50000' WHERE vmid = $2",
            &[spec.into(), VMID.into()],
        )
        .await;
        for (port, purpose) in [(50_000, "agent"), (50_002, "game"), (50_001, "game")] {
            self.sql(
                "INSERT INTO ports (port, instance_id, purpose, allocated_at) VALUES ($1, $2, $3, 1)",
                &[i64::from(port).into(), Sql::text(instance), purpose.into()],
            )
            .await;
        }
        instance
    }

    fn answers(&self, status: u16, body: &'static str) {
        *self.calls.answer.lock().unwrap() = Some((status, body));
    }

    fn called(&self) -> Vec<Request<Bytes>> {
        self.calls.calls.lock().unwrap().split_off(0)
    }

    async fn post(&self, what: &str) -> Answer {
        self.call(self.owner, "POST", &format!("/api/servers/{VMID}/{what}")).await
    }
}

#[tokio::test]
async fn the_catalogue_names_games_variants_and_versions() {
    let answer = World::new().await.get("/api/catalog/game").await;

    let variants = json!([
        { "id": "vanilla", "versions": ["14.0", "13.0"] }, { "id": "modded", "versions": [] },
    ]);
    let wanted = json!({ "games": [{ "id": "openttd", "variants": variants }] });
    assert_eq!((answer.status, answer.body), (StatusCode::OK, wanted));
}

#[tokio::test]
async fn a_game_server_has_a_number_of_its_own_range_and_the_ports_that_the_game_needs() {
    let world = World::new().await;
    let body = game_with("version", json!("14.0"));

    let answer = world.create("k", &body).await;

    assert_eq!((answer.status, &answer.body["vmid"]), (StatusCode::ACCEPTED, &json!(5000)));
    let row = &world.sql("SELECT spec, ctype, name FROM instances", &[]).await[0];
    let wanted = Workload::Game {
        game: "openttd".to_owned(),
        variant: "vanilla".to_owned(),
        version: "14.0".to_owned(),
        world: "world".to_owned(),
        ports: 2,
    };
    assert_eq!(row.json::<InstanceSpec>(0).unwrap().workload, wanted);
    assert_eq!(row.get::<String>(1).unwrap(), "game");
    assert_eq!(row.get::<String>(2).unwrap(), "game-5000");
    // Both kinds count on their own.
    let dev = json!({ "ctype": "dev", "runtime": "node", "version": "24" });
    assert_eq!(world.create("d", &dev).await.body["vmid"], 6000);
    assert_eq!(world.create("g", &game()).await.body["vmid"], 5001);
}

#[tokio::test]
async fn what_no_game_server_can_be_is_refused_by_name() {
    let world = World::new().await;
    for (body, field, says) in [
        (json!({ "ctype": "game" }), "game", "must be one of openttd"),
        (game_with("game", json!("minecraft")), "game", "must be one of openttd"),
        (game_with("variant", json!("forge")), "variant", "must be one of vanilla, modded"),
        (game_with("variant", json!("modded")), "version", "none is offered"),
        (game_with("version", json!("13")), "version", "must be one of 14.0, 13.0"),
        (
            game_with("portsNeeded", json!(2)),
            "portsNeeded",
            "must be at most 1: this game has no more",
        ),
        (game_with("portsNeeded", json!(16)), "portsNeeded", "must be at most 15"),
        (game_with("memoryMiB", json!(511)), "memoryMiB", "must be at least 512 for this game"),
        (game_with("runtime", json!("node")), "runtime", "game servers do not have this"),
        (game_with("addons", json!(["codeserver"])), "addons", "game servers do not have this"),
        (
            game_with("enable_code_server", json!(true)),
            "enable_code_server",
            "game servers do not have this",
        ),
    ] {
        let answer = world.create("k", &body).await;
        assert_eq!(
            (answer.status, &answer.body["field"], &answer.body["error"]),
            (StatusCode::BAD_REQUEST, &json!(field), &json!(says)),
            "{body}"
        );
    }
    for name in ["", "../w", "a b", "-rf", "wörld", "a/b", &"w".repeat(33)] {
        let answer = world.create("k", &game_with("world", json!(name))).await;
        assert_eq!(
            (answer.status, &answer.body["field"]),
            (StatusCode::BAD_REQUEST, &json!("world")),
            "{name}"
        );
    }
    assert_eq!(world.count("instances").await, 0);
}

#[tokio::test]
async fn a_game_shows_what_it_is_where_it_is_and_how_it_last_ended() {
    let world = World::new().await;
    let instance = world.seed_game().await;
    let mut seen = observation(VMID, instance);
    seen["readiness"] =
        json!({ "vmid": VMID, "ready": false, "readySource": "log-pattern", "readyError": "down" });
    seen["ready"] = json!(false);
    for (field, value) in [
        ("state", json!("crashed")),
        ("processRunning", json!(false)),
        ("crashCount", json!(1)),
        ("lastReadyAt", json!("2026-11-19T23:00:00Z")),
        ("nextStartAt", json!("2026-11-20T00:00:30Z")),
        ("lastCrashTime", json!("2026-11-20T00:00:00Z")),
        ("lastCrashExitCode", Value::Null),
        ("lastCrashSignal", json!(9)),
        ("lastCrashUptimeSeconds", json!(77)),
        ("lastCrashClassification", json!("unexpected_exit")),
        ("lastCrashLogTail", json!(["one", "two"])),
    ] {
        seen["status"][field] = value;
    }
    world.observe(&seen);

    let status = world.get("/api/servers/5001/status").await.body;
    for (field, wanted) in [
        ("category", json!("GAME")),
        ("runtime", json!("openttd")),
        ("flavor", json!("vanilla")),
        ("version", json!("13.0")),
        ("status", json!("crashed")),
        ("hostStatus", json!("online")),
        ("ready", json!(false)),
        ("readySource", json!("log-pattern")),
        ("readyError", json!("down")),
        ("ports", json!([50_001, 50_002])),
        ("crashCount", json!(1)),
        ("lastReadyAt", json!("2026-11-19T23:00:00Z")),
        ("nextStartAt", json!("2026-11-20T00:00:30Z")),
        ("lastCrashTime", json!("2026-11-20T00:00:00Z")),
        ("lastCrashExitCode", Value::Null),
        ("lastCrashSignal", json!(9)),
        ("lastCrashUptimeSeconds", json!(77)),
        ("lastCrashClassification", json!("unexpected_exit")),
        ("lastCrashLogTail", json!(["one", "two"])),
    ] {
        assert_eq!(status[field], wanted, "{field}");
    }
    let row = &world.get("/api/instances").await.body["rows"][0];
    for (field, wanted) in [
        ("ctype", json!("game")),
        ("game", json!("openttd")),
        ("variant", json!("vanilla")),
        ("world", json!("w")),
        ("ports", json!([50_001, 50_002])),
        ("runtime", Value::Null),
    ] {
        assert_eq!(row[field], wanted, "{field}");
    }
}

#[tokio::test]
async fn power_is_forwarded_to_the_game_s_own_agent_and_recorded() {
    let world = World::new().await;
    let instance = world.seed_game().await;
    let token = agent_token(SECRET.as_bytes(), Vmid::new(VMID).unwrap(), instance);
    for (verb, answer, wanted) in [
        ("start", (202, r#"{"ok":true,"state":"starting"}"#), (StatusCode::ACCEPTED, "starting")),
        ("stop", (204, ""), (StatusCode::OK, "stopped")),
        ("restart", (202, r#"{"ok":true,"state":"stopping"}"#), (StatusCode::ACCEPTED, "stopping")),
        ("kill", (204, ""), (StatusCode::OK, "stopped")),
    ] {
        world.answers(answer.0, answer.1);

        let answer = world.post(&format!("game/{verb}")).await;

        assert_eq!(
            (answer.status, answer.body),
            (wanted.0, json!({ "ok": true, "state": wanted.1 })),
            "{verb}"
        );
        let calls = world.called();
        assert_eq!(calls.len(), 1);
        assert_eq!(calls[0].method(), "POST");
        assert_eq!(calls[0].uri().to_string(), format!("http://127.0.0.1:50000/{verb}"));
        assert_eq!(calls[0].headers()["authorization"], format!("Bearer {token}"));
    }
    let acts = world.sql("SELECT action FROM audit_log ORDER BY action", &[]).await;
    let acts: Vec<String> = acts.iter().map(|row| row.get(0).unwrap()).collect();
    assert_eq!(acts, ["game.kill", "game.restart", "game.start", "game.stop"]);
}

#[tokio::test]
async fn a_second_power_operation_is_a_conflict_in_the_agents_words() {
    let world = World::new().await;
    world.seed_game().await;
    world.answers(409, r#"{"error":"a stop is running","code":"conflict"}"#);

    let answer = world.post("game/start").await;

    let wanted = json!({
        "error": "the agent could not start the game", "code": "conflict",
        "details": { "error": "a stop is running", "code": "conflict" },
    });
    assert_eq!((answer.status, answer.body), (StatusCode::CONFLICT, wanted));
}

#[tokio::test]
async fn players_are_asked_of_the_agent() {
    let world = World::new().await;
    world.seed_game().await;
    world.answers(200, r#"{"online":1,"max":20,"players":["ann"]}"#);

    let answer = world.get("/api/game/servers/5001/players").await;

    assert_eq!(answer.body, json!({ "online": 1, "max": 20, "players": ["ann"] }));
    assert_eq!(world.called()[0].uri().path(), "/game/players");
    world.answers(404, r#"{"error":"this game does not tell","code":"not_found"}"#);
    assert_eq!(world.get("/api/game/servers/5001/players").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn nobody_else_s_game_and_no_dev_container_is_turned_on_or_off() {
    let world = World::new().await;
    world.seed_game().await;
    world.seed(6001, 0).await;
    let stranger = world.user("stranger").await;
    for (user, vmid) in [(stranger, VMID), (world.owner, 5002), (world.owner, 6001)] {
        for verb in ["start", "stop", "restart", "kill"] {
            let answer =
                world.call(user, "POST", &format!("/api/servers/{vmid}/game/{verb}")).await;
            assert_eq!(answer.text, r#"{"error":"not found","code":"not_found"}"#, "{vmid}");
        }
        let players = world.call(user, "GET", &format!("/api/game/servers/{vmid}/players")).await;
        assert_eq!(players.status, StatusCode::NOT_FOUND, "{vmid}");
    }
    for verb in ["start", "stop", "restart"] {
        let answer =
            world.call(stranger, "POST", &format!("/api/servers/{VMID}/host/{verb}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert!(world.called().is_empty());
    assert_eq!(world.count("audit_log").await, 0);
}

#[tokio::test]
async fn only_what_is_here_and_may_be_used_is_turned_on_or_off() {
    for (change, says) in [
        ("state = 'creating', agent_address = NULL", "the server is still being created"),
        ("state = 'deleting'", "the server is being deleted"),
        ("suspended_at = 1", "the server is suspended"),
    ] {
        let world = World::new().await;
        world.seed_game().await;
        world.sql(&format!("UPDATE instances SET {change}"), &[]).await;
        for what in ["game/start", "game/kill", "host/stop", "host/restart"] {
            let answer = world.post(what).await;
            assert_eq!(
                (answer.status, &answer.body["error"]),
                (StatusCode::CONFLICT, &json!(says)),
                "{what}"
            );
        }
        assert!(world.called().is_empty());
    }
}

#[tokio::test]
async fn a_container_is_as_its_owner_last_wanted_it() {
    let world = World::new().await;
    world.seed_game().await;
    let recorded = async || {
        let row = &world.sql("SELECT power, boots FROM instances", &[]).await[0];
        (row.get::<String>(0).unwrap(), row.get::<i64>(1).unwrap())
    };

    for (verb, message, wanted) in [
        ("stop", "the container is being stopped", ("off", 0)),
        ("stop", "the container is being stopped", ("off", 0)),
        ("start", "the container is being started", ("on", 0)),
        ("restart", "the container is being restarted", ("on", 1)),
        ("restart", "the container is being restarted", ("on", 2)),
    ] {
        let answer = world.post(&format!("host/{verb}")).await;

        let body = json!({ "success": true, "message": message });
        assert_eq!((answer.status, answer.body), (StatusCode::ACCEPTED, body));
        assert_eq!(recorded().await, (wanted.0.to_owned(), wanted.1), "{verb}");
    }
    world.post("host/stop").await;
    assert_eq!(world.get("/api/servers/5001/status").await.body["status"], "stopped");
    let refused = world.post("game/start").await;
    assert_eq!(
        (refused.status, &refused.body["error"]),
        (StatusCode::CONFLICT, &json!("the container is stopped"))
    );
}

#[tokio::test]
async fn an_operator_takes_any_server_away_and_gives_it_back() {
    let world = World::new().await;
    world.seed_game().await;
    let operator = world.user("operator").await;
    let ask = async |token: String, vmid: u32, what: &str| {
        let uri = format!("/api/admin/servers/{vmid}/{what}");
        let request = Request::post(uri).header("authorization", format!("Bearer {token}"));
        world.send(request, String::new()).await
    };
    let admin = || format!("admin:{operator}");

    for (what, suspended) in
        [("suspend", true), ("suspend", true), ("unsuspend", false), ("unsuspend", false)]
    {
        let answer = ask(admin(), VMID, what).await;

        assert_eq!(answer.body, json!({ "ok": true, "suspended": suspended }));
        let instance = world.get("/api/instances/5001").await.body;
        assert_eq!(instance["suspended"], suspended, "{what}");
    }
    assert_eq!(world.count("audit_log").await, 2, "what changes nothing is not recorded");

    assert_eq!(ask(world.owner.to_string(), VMID, "suspend").await.status, StatusCode::FORBIDDEN);
    assert_eq!(ask(admin(), 5002, "suspend").await.status, StatusCode::NOT_FOUND);
    world.sql("UPDATE instances SET state = 'creating'", &[]).await;
    assert_eq!(ask(admin(), VMID, "suspend").await.status, StatusCode::CONFLICT);
    assert_eq!(world.get("/api/instances/5001").await.body["suspended"], false);
}
