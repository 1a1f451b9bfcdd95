//! `servers`: game servers, their power, and that of containers.

use http::Method;
use serde_json::{Value, json};
use system_tests::api::game_server;
use system_tests::host::Host;

use crate::{assert_invalid, assert_not_found, assert_unauthenticated, with, without};

const GAME_VERBS: [&str; 4] = ["start", "stop", "restart", "kill"];
const HOST_VERBS: [&str; 3] = ["start", "stop", "restart"];

#[tokio::test]
async fn the_catalogue_of_games_is_that_of_the_artifact_store() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    let reply = session.get("/api/catalog/game").await.expect(200).json();

    let variants = json!([{ "id": "vanilla", "versions": ["13.0"] }]);
    assert_eq!(reply, json!({ "games": [{ "id": "openttd", "variants": variants }] }));
    assert_unauthenticated(&host.api.call(Method::GET, "/api/catalog/game", None, None).await);
}

#[tokio::test]
async fn a_game_server_has_a_number_and_ports_of_its_own() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    let there = host.created_game(&session, 1).await;

    assert!((5000..=5999).contains(&there.vmid), "{}", there.vmid);
    let row = session.get(&format!("/api/instances/{}", there.vmid)).await.expect(200).json();
    let (game, world) = (&row["game"], &row["world"]);
    assert_eq!((&row["ctype"], game, world), (&json!("game"), &json!("openttd"), &json!("world")));
    // Of the two, the agent has the first.
    assert_eq!(row["ports"].as_array().map(Vec::len), Some(1), "{row}");
    let server = session.get("/api/servers").await.expect(200).json()["servers"][0].clone();
    assert_eq!((&server["category"], &server["flavor"]), (&json!("GAME"), &json!("vanilla")));
}

#[tokio::test]
async fn a_game_server_that_makes_no_sense_is_refused() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let body = game_server();

    for body in [
        without(&body, "game"),
        without(&body, "variant"),
        without(&body, "version"),
        with(&body, "game", json!("chess")),
        with(&body, "version", json!("12.0")),
        with(&body, "world", json!("../../etc")),
        with(&body, "portsNeeded", json!(7)),
        with(&body, "portsNeeded", json!(-1)),
        with(&body, "memoryMiB", json!(255)),
        with(&body, "runtime", json!("node")),
    ] {
        assert_invalid(&session.call(Method::POST, "/api/instances", Some(&body)).await);
    }
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));
}

#[tokio::test]
async fn power_is_the_agents() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(202, r#"{"ok":true,"state":"starting"}"#).await;
    let there = host.created_game(&session, agent.address.port()).await;

    for verb in ["start", "stop", "restart"] {
        let reply = session.post(&format!("/api/servers/{}/game/{verb}", there.vmid)).await;
        assert_eq!(reply.expect(202).json(), json!({ "ok": true, "state": "starting" }));
    }

    assert_eq!(agent.asked(), ["POST /start", "POST /stop", "POST /restart"]);
}

#[tokio::test]
async fn what_is_done_at_once_is_said_with_a_body() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(204, "").await;
    let there = host.created_game(&session, agent.address.port()).await;

    for verb in GAME_VERBS {
        let reply = session.post(&format!("/api/servers/{}/game/{verb}", there.vmid)).await;
        assert_eq!(reply.expect(200).json(), json!({ "ok": true, "state": "stopped" }));
    }
}

#[tokio::test]
async fn a_second_power_operation_is_a_conflict() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(409, r#"{"error":"a stop is running","code":"conflict"}"#).await;
    let there = host.created_game(&session, agent.address.port()).await;

    for verb in GAME_VERBS {
        let reply = session.post(&format!("/api/servers/{}/game/{verb}", there.vmid)).await;
        assert_eq!(reply.status, 409, "{}", reply.text());
        assert_eq!(reply.json()["details"]["error"], "a stop is running");
    }
    let players = session.get(&format!("/api/game/servers/{}/players", there.vmid)).await;
    assert_eq!(players.status, 409, "{}", players.text());
}

#[tokio::test]
async fn players_are_those_that_the_agent_knows() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(200, r#"{"online":1,"max":25,"players":["ann"]}"#).await;
    let there = host.created_game(&session, agent.address.port()).await;

    let reply = session.get(&format!("/api/game/servers/{}/players", there.vmid)).await;

    let wanted = json!({ "online": 1, "max": 25, "players": ["ann"] });
    assert_eq!(reply.expect(200).json(), wanted);
    assert_eq!(agent.asked(), ["GET /game/players"]);
}

#[tokio::test]
async fn a_container_is_told_to_its_host_proxy_as_its_owner_wants_it() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created_game(&session, 1).await;
    let told = async || {
        let agents = host.internal(Method::GET, "/internal/agents", None).await.expect(200);
        agents.json()["agents"][0]["power"].clone()
    };
    assert_eq!(told().await, json!({ "on": { "boots": 0 } }));

    for (verb, wanted) in [
        ("stop", json!("off")),
        ("start", json!({ "on": { "boots": 0 } })),
        ("restart", json!({ "on": { "boots": 1 } })),
    ] {
        let reply = session.post(&format!("/api/servers/{}/host/{verb}", there.vmid)).await;
        assert_eq!(reply.expect(202).json()["success"], true);
        assert_eq!(told().await, wanted, "{verb}");
    }
    session.post(&format!("/api/servers/{}/host/stop", there.vmid)).await.expect(202);
    let status = session.get(&format!("/api/servers/{}/status", there.vmid)).await.expect(200);
    assert_eq!(status.json()["status"], "stopped");
}

#[tokio::test]
async fn what_is_still_being_created_has_no_power() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = session.start(&game_server()).await;

    for path in every_path(&there.vmid.to_string()) {
        let reply = session.call(path.0, &path.1, None).await;
        assert_eq!(reply.status, 409, "{}: {}", path.1, reply.text());
    }
}

#[tokio::test]
async fn nobody_without_a_token_and_no_stranger_gets_near() {
    let host = Host::start().await;
    let (owner, stranger) = (host.somebody("ann").await, host.somebody("bob").await);
    let agent = host.agent(204, "").await;
    let there = host.created_game(&owner, agent.address.port()).await;

    let theirs = every_path(&there.vmid.to_string());
    for ((method, path), (_, missing)) in theirs.into_iter().zip(every_path("5999")) {
        assert_unauthenticated(&host.api.call(method.clone(), &path, None, None).await);
        let theirs = stranger.call(method.clone(), &path, None).await;
        assert_not_found(&theirs);
        assert_eq!(theirs.fingerprint(), stranger.call(method, &missing, None).await.fingerprint());
    }
    assert_eq!(agent.asked(), [""; 0]);
    assert_eq!(row(&owner.get("/api/instances").await.json())["state"], "active");
}

#[tokio::test]
async fn an_operator_suspends_and_its_host_proxy_is_told() {
    let host = Host::start().await;
    let (owner, operator) = (host.somebody("ann").await, host.operator("root").await);
    let there = host.created_game(&owner, 1).await;
    let path = |what: &str| format!("/api/admin/servers/{}/{what}", there.vmid);
    let power = async || {
        let agents = host.internal(Method::GET, "/internal/agents", None).await.expect(200);
        agents.json()["agents"][0]["power"].clone()
    };

    for (what, suspended, wanted) in
        [("suspend", true, json!("off")), ("unsuspend", false, json!({ "on": { "boots": 0 } }))]
    {
        let refused = owner.post(&path(what)).await;
        assert_eq!((refused.status.as_u16(), &refused.json()["code"]), (403, &json!("forbidden")));
        assert_unauthenticated(&host.api.call(Method::POST, &path(what), None, None).await);
        let missing = operator.post(&format!("/api/admin/servers/5999/{what}")).await;
        assert_not_found(&missing);
        let reply = operator.post(&path(what)).await.expect(200).json();
        assert_eq!(reply, json!({ "ok": true, "suspended": suspended }));
        assert_eq!(power().await, wanted, "{what}");
    }

    let unfinished = owner.start(&game_server()).await;
    for what in ["suspend", "unsuspend"] {
        let path = format!("/api/admin/servers/{}/{what}", unfinished.vmid);
        assert_eq!(operator.post(&path).await.status, 409);
    }
}

fn row(list: &Value) -> &Value {
    &list["rows"][0]
}

fn every_path(vmid: &str) -> Vec<(Method, String)> {
    let game = GAME_VERBS.map(|verb| (Method::POST, format!("/api/servers/{vmid}/game/{verb}")));
    let host = HOST_VERBS.map(|verb| (Method::POST, format!("/api/servers/{vmid}/host/{verb}")));
    let players = (Method::GET, format!("/api/game/servers/{vmid}/players"));
    game.into_iter().chain(host).chain([players]).collect()
}
