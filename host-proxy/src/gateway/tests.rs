use std::time::Duration;

use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::internal::{HostPower, Machine};
use zlh_authn::token::{GeneratedKey, SigningKeys, generate_key};
use zlh_ids::{ContainerType, InstanceId};

use super::*;
use crate::body;
use crate::edge::listener::{self, Bounds};
use crate::test_kit::{Message, Peer};

const SECRET: &str = "secret";
const START: &str = "POST /agents/6001/dev/codeserver/start";

/// Where containers are, in one machine's eyes.
struct Known(Result<AgentRoute, StatusCode>);

#[async_trait]
impl Inventory for Known {
    async fn find(&self, vmid: Vmid) -> Result<AgentRoute, CallError> {
        let refused =
            |status| CallError::Status { call: String::new(), status, message: "no".to_owned() };
        let route = self.0.clone().map_err(refused)?;
        if route.vmid == vmid { Ok(route) } else { Err(refused(StatusCode::NOT_FOUND)) }
    }
}

/// The keys of an installation, and a container of it with a raw agent.
struct Site {
    component: GeneratedKey,
    host: GeneratedKey,
    agent: TcpListener,
    instance: InstanceId,
}

impl Site {
    async fn new() -> Self {
        Self {
            component: generate_key(TokenKind::Internal).unwrap(),
            host: generate_key(TokenKind::Internal).unwrap(),
            agent: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            instance: InstanceId::random(),
        }
    }

    fn route(&self, machine: Machine) -> AgentRoute {
        AgentRoute {
            vmid: Vmid::new(6001).unwrap(),
            instance_id: self.instance,
            ctype: ContainerType::Dev,
            agent_address: self.agent.local_addr().unwrap().to_string(),
            ide_address: None,
            machine,
            power: HostPower::default(),
        }
    }

    /// The gateway of a machine on a listener.
    fn gateway(&self, id: &str, listener: TcpListener, known: Known) -> DropGuard {
        let keys = |pair: &GeneratedKey| {
            PublicKeys::from_json(&json!({ "keys": [pair.public] }).to_string()).unwrap()
        };
        let reach = Reach::new(id, signing(&self.host));
        let gateway = Arc::new(Gateway {
            keys: GatewayKeys { components: keys(&self.component), hosts: keys(&self.host) },
            inventory: Arc::new(known),
            agents: AgentPool::new(&reach, SECRET.to_owned(), 1024),
            reach,
            streams: Registry::new(8),
            room: Arc::new(Semaphore::new(8)),
        });
        let bounds = Bounds { connections: 64, drain: Duration::ZERO };
        let stop = CancellationToken::new();
        let serve = listener::serve(listener, bounds, stop.clone(), move |request, client| {
            let gateway = Arc::clone(&gateway);
            async move { gateway.handle(request.map(body::received), client).await }
        });
        tokio::spawn(serve);
        stop.drop_guard()
    }

    /// One machine that the container is on.
    async fn alone(&self) -> (SocketAddr, DropGuard) {
        let (listener, address) = listen().await;
        (address, self.gateway("a", listener, Known(Ok(self.route(Machine::default())))))
    }

    fn claims(&self) -> Claims {
        let mut claims = Claims::new(
            TokenKind::Internal,
            "component",
            clock::unix_seconds(),
            Duration::from_secs(60),
        )
        .unwrap();
        claims.vmid = Vmid::new(6001);
        claims.instance = Some(self.instance);
        claims
    }

    fn token(&self) -> String {
        signing(&self.component).sign(&self.claims()).unwrap()
    }

    /// The head of a request with a component's token, as far as its last header.
    fn head(&self, line: &str) -> String {
        head(line, &self.token())
    }

    /// Whether nobody asked the agent.
    async fn is_untouched(&self) -> bool {
        tokio::time::timeout(Duration::ZERO, self.agent.accept()).await.is_err()
    }
}

fn signing(pair: &GeneratedKey) -> SigningKeys {
    SigningKeys::from_json(&json!([pair.signing]).to_string()).unwrap()
}

fn head(line: &str, token: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n")
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn ask(gateway: SocketAddr, request: String) -> Message {
    let mut peer = Peer::connect(gateway).await;
    peer.send(request).await;
    peer.message().await
}

#[tokio::test]
async fn a_call_is_answered_by_the_agent_which_sees_its_own_token() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    let mut component = Peer::connect(gateway).await;
    let more = "X-Request-Id: abc-1\r\nCookie: a=1\r\nContent-Type: application/json\r\n\
                X-Forwarded-For: 6.6.6.6\r\nContent-Length: 2\r\n\r\n{}";
    component.send(site.head(&format!("{START}?force=1")) + more).await;

    let mut agent = Peer::accept(&site.agent).await;
    let seen = agent.message().await;
    agent
        .send(
            "HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\
             Location: http://elsewhere/\r\nSet-Cookie: a=1\r\n\r\ntrue",
        )
        .await;
    let answer = component.message().await;

    let token = agent_token(SECRET.as_bytes(), Vmid::new(6001).unwrap(), site.instance);
    assert!(seen.head.starts_with("POST /dev/codeserver/start?force=1 "), "{}", seen.head);
    assert_eq!(seen.header("authorization"), Some(&*format!("Bearer {token}")));
    assert_eq!(seen.header("host"), Some(&*site.agent.local_addr().unwrap().to_string()));
    assert_eq!(seen.header("x-request-id"), Some("abc-1"));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!((seen.header("cookie"), seen.header("x-forwarded-for")), (None, None));
    assert_eq!(seen.body, "{}");
    assert_eq!((answer.status(), &*answer.body), ("202", "true"));
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    assert_eq!((answer.header("location"), answer.header("set-cookie")), (None, None));
}

#[tokio::test]
async fn a_redirect_is_the_answer_and_not_followed() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    let (elsewhere, address) = listen().await;
    let mut component = Peer::connect(gateway).await;
    component.send(site.head("GET /agents/6001/status") + "\r\n").await;

    let mut agent = Peer::accept(&site.agent).await;
    agent.head().await;
    let answer =
        format!("HTTP/1.1 307 X\r\nLocation: http://{address}/\r\nContent-Length: 0\r\n\r\n");
    agent.send(answer).await;

    assert_eq!(component.message().await.status(), "307");
    assert!(tokio::time::timeout(Duration::ZERO, elsewhere.accept()).await.is_err());
}

#[tokio::test]
async fn only_a_token_for_this_container_opens_its_agent() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut claims = site.claims();
        change(&mut claims);
        claims
    };
    let mut refused = vec!["nonsense".to_owned(), String::new()];
    for claims in [
        with(&|claims| claims.vmid = Vmid::new(6002)),
        with(&|claims| claims.vmid = None),
        with(&|claims| claims.exp -= 66),
        with(&|claims| claims.aud = "zlh:access".to_owned()),
    ] {
        refused.push(signing(&site.component).sign(&claims).unwrap());
    }
    let stranger = generate_key(TokenKind::Internal).unwrap();
    refused.push(signing(&stranger).sign(&site.claims()).unwrap());
    for kind in TokenKind::ALL.into_iter().filter(|kind| *kind != TokenKind::Internal) {
        let mut claims =
            Claims::new(kind, "x", clock::unix_seconds(), Duration::from_secs(60)).unwrap();
        claims.vmid = Vmid::new(6001);
        claims.instance = Some(site.instance);
        refused.push(signing(&generate_key(kind).unwrap()).sign(&claims).unwrap());
    }

    for token in refused {
        let answer = ask(gateway, head(START, &token) + "\r\n").await;
        assert_eq!(answer.status(), "401", "{token}");
    }
    let twice = format!("Authorization: Bearer {}\r\n\r\n", site.token());
    assert_eq!(ask(gateway, site.head(START) + twice.as_str()).await.status(), "401");
    let another_life = with(&|claims| claims.instance = Some(InstanceId::random()));
    let another_life = signing(&site.component).sign(&another_life).unwrap();
    assert_eq!(ask(gateway, head(START, &another_life) + "\r\n").await.status(), "404");
    assert!(site.is_untouched().await);
}

#[tokio::test]
async fn what_components_do_not_ask_of_agents_goes_no_further() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    for line in [
        "GET /agents/6001/dev/codeserver/start",
        "POST /agents/6001/config",
        "POST /agents/6001/dev/codeserver/../../config",
        "POST /agents/6001/dev/codeserver/%2e%2e/start",
        "POST /agents/6001/dev//codeserver/start",
        "POST /agents/6001//dev/codeserver/start",
        "POST /agents/6001/dev/codeserver/start/",
        "POST /agents/06001/dev/codeserver/start",
        "POST /agents/../agents/6001/dev/codeserver/start",
        "POST //agents/6001/dev/codeserver/start",
        "GET /agents/6001",
        "GET /agents/6001/",
        "GET /agents",
        "GET /internal/agents",
        "GET /tunnels/6001/files",
        "GET /",
    ] {
        let answer = ask(gateway, site.head(line) + "Content-Length: 0\r\n\r\n").await;
        assert_eq!(answer.status(), "404", "{line}");
    }

    assert!(site.is_untouched().await);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_whether_or_not_it_says_so() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    let declared = site.head(START) + "Content-Length: 1025\r\n\r\n";
    assert_eq!(ask(gateway, declared).await.status(), "413");

    let chunk = "x".repeat(1025);
    let content = format!("Transfer-Encoding: chunked\r\n\r\n401\r\n{chunk}\r\n0\r\n\r\n");
    let undeclared = site.head(START) + content.as_str();
    assert_eq!(ask(gateway, undeclared).await.status(), "413");
}

#[tokio::test]
async fn who_is_not_there_is_told_apart() {
    let site = Site::new().await;
    let status = async |known: Known| {
        let (listener, address) = listen().await;
        let _stop = site.gateway("a", listener, known);
        let answer = ask(address, site.head("GET /agents/6001/status") + "\r\n").await;
        (answer.status().to_owned(), answer.body)
    };
    let (gone, nobody) = listen().await;
    drop(gone);
    let elsewhere = |url: String| Machine { host: Some("b".to_owned()), gateway_url: Some(url) };
    let mut stopped = site.route(Machine::default());
    stopped.agent_address = nobody.to_string();

    let (unknown, _) = status(Known(Err(StatusCode::NOT_FOUND))).await;
    let (undecided, _) = status(Known(Err(StatusCode::SERVICE_UNAVAILABLE))).await;
    let (no_agent, agent) = status(Known(Ok(stopped))).await;
    let away = site.route(elsewhere(format!("http://{nobody}")));
    let (no_machine, machine) = status(Known(Ok(away))).await;

    assert_eq!((&*unknown, &*undecided, &*no_agent, &*no_machine), ("404", "503", "503", "503"));
    assert!(agent.contains("the agent does not answer"), "{agent}");
    assert!(machine.contains("the container's machine does not answer"), "{machine}");
}

#[tokio::test]
async fn a_container_of_another_machine_is_reached_through_that_ones_gateway() {
    let site = Site::new().await;
    let (theirs, their_address) = listen().await;
    let (ours, our_address) = listen().await;
    let place = Machine {
        host: Some("a".to_owned()),
        gateway_url: Some(format!("http://{their_address}")),
    };
    let _their = site.gateway("a", theirs, Known(Ok(site.route(place.clone()))));
    let _our = site.gateway("b", ours, Known(Ok(site.route(place))));
    let mut component = Peer::connect(our_address).await;

    // Twice, over one and the same tunnel.
    component.send(site.head(START) + "Content-Length: 0\r\n\r\n").await;
    let mut agent = Peer::accept(&site.agent).await;
    for _ in 0..2 {
        let seen = agent.message().await;
        assert!(seen.head.starts_with("POST /dev/codeserver/start "), "{}", seen.head);
        agent.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        assert_eq!(component.message().await.status(), "200");
        component.send(site.head(START) + "Content-Length: 0\r\n\r\n").await;
    }
}

#[tokio::test]
async fn two_machines_that_each_think_it_is_the_other_do_not_ask_in_circles() {
    let site = Site::new().await;
    let (first, first_address) = listen().await;
    let (second, second_address) = listen().await;
    let at = |host: &str, address: SocketAddr| {
        let gateway_url = Some(format!("http://{address}"));
        Known(Ok(site.route(Machine { host: Some(host.to_owned()), gateway_url })))
    };
    let _first = site.gateway("a", first, at("b", second_address));
    let _second = site.gateway("b", second, at("a", first_address));

    let answer = ask(first_address, site.head(START) + "Content-Length: 0\r\n\r\n").await;

    assert_eq!(answer.status(), "503");
    assert!(site.is_untouched().await);
}

#[tokio::test]
async fn a_tunnel_is_for_host_proxies_and_leads_to_this_machine() {
    let site = Site::new().await;
    let (gateway, _stop) = site.alone().await;
    let upgrade = "Connection: Upgrade\r\nUpgrade: zlh-tunnel\r\n\r\n";
    let host = signing(&site.host).sign(&site.claims()).unwrap();
    let line = "GET /tunnels/6001/agent";

    let component = ask(gateway, site.head(line) + upgrade).await;
    let plain = ask(gateway, head(line, &host) + "\r\n").await;
    let no_ide = ask(gateway, head("GET /tunnels/6001/ide", &host) + upgrade).await;
    assert_eq!((component.status(), plain.status(), no_ide.status()), ("401", "400", "404"));
    assert!(site.is_untouched().await);

    let mut peer = Peer::connect(gateway).await;
    peer.send(head(line, &host) + upgrade).await;
    assert_eq!(peer.message().await.status(), "101");
    let mut agent = Peer::accept(&site.agent).await;
    peer.send("any bytes").await;
    assert_eq!(agent.text(9).await, "any bytes");
    agent.send("back").await;
    assert_eq!(peer.text(4).await, "back");
}
