//! Logins across the whole system.

use http::Method;
use system_tests::Stack;

#[tokio::test]
async fn a_replayed_refresh_token_ends_its_login_and_no_other() {
    let stack = Stack::start_without_containers().await;
    let api = stack.api();
    let session = api.register("ann").await;
    let elsewhere = api.login("ann").await;
    let mut chain = vec![session.refresh_token.clone()];
    let mut token = session.token.clone();
    for _ in 0..3 {
        let reply = api.refresh(chain.last().unwrap()).await.expect(200).json();
        chain.push(reply["refreshToken"].as_str().unwrap().to_owned());
        token = reply["token"].as_str().unwrap().to_owned();
    }
    api.call(Method::GET, "/api/auth/me", Some(&token), None).await.expect(200);

    assert_eq!(api.refresh(&chain[0]).await.status, 401);

    for used in &chain {
        assert_eq!(api.refresh(used).await.status, 401);
    }
    assert_eq!(api.call(Method::GET, "/api/auth/me", Some(&token), None).await.status, 401);
    elsewhere.get("/api/auth/me").await.expect(200);
    api.refresh(&elsewhere.refresh_token).await.expect(200);
}

#[tokio::test]
async fn of_exchanges_at_once_exactly_one_succeeds() {
    let stack = Stack::start_without_containers().await;
    let api = stack.api();

    for round in 0..5 {
        let session = api.register(&format!("user{round}")).await;
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let token = session.refresh_token.clone();
                tokio::spawn(async move { api.refresh(&token).await.status.as_u16() })
            })
            .collect();
        let mut statuses = Vec::new();
        for task in tasks {
            statuses.push(task.await.unwrap());
        }
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| matches!(status, 200 | 401)), "{statuses:?}");
    }
}
