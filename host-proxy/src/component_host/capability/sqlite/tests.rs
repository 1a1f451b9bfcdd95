use super::*;

fn handle(folder: &tempfile::TempDir) -> Connection {
    let path = folder.path().join("db");
    let setup = rusqlite::Connection::open(&path).unwrap();
    setup.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE t(x)").unwrap();
    drop(setup);
    let session =
        Session { pool: Arc::new(Pool::open(path).unwrap()), stopped: Arc::default(), lease: None };
    Connection {
        session: Arc::new(Mutex::new(session)),
        counters: Arc::default(),
        _counted: Arc::default(),
    }
}

/// Runs a statement to its end; answers its rows and whether they came from another thread.
async fn run(connection: &Connection, sql: &str) -> Result<(Vec<RowResult>, bool), Error> {
    let started = connection.clone().start(sql.to_owned(), Vec::new()).await.unwrap()?;
    let (rows, elsewhere) = match started.rows {
        Rows::All(rows) => (rows, false),
        Rows::Coming(rows) => (collect(rows).await?, true),
    };
    if let Done::Running(done) = started.done {
        done.await.unwrap()?;
    }
    Ok((rows, elsewhere))
}

fn integer(rows: &[RowResult]) -> i64 {
    match rows {
        [RowResult { values }] => match values.as_slice() {
            [Value::Integer(integer)] => *integer,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_short_query_runs_at_once_and_keeps_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let connection = handle(&folder);

    let (rows, elsewhere) = run(&connection, "SELECT count(*) FROM t").await.unwrap();

    assert_eq!((integer(&rows), elsewhere), (0, false));
    assert!(connection.session.lock().await.lease.is_none());
}

#[tokio::test]
async fn a_query_that_takes_long_or_returns_much_moves_to_another_thread() {
    let folder = tempfile::tempdir().unwrap();
    let connection = handle(&folder);
    let numbers = |count: u32| {
        format!(
            "FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c LIMIT {count}) SELECT x FROM c)"
        )
    };

    let (long, elsewhere) =
        run(&connection, &format!("SELECT max(x) {}", numbers(100_000))).await.unwrap();
    assert_eq!((integer(&long), elsewhere), (100_000, true));

    let (many, elsewhere) = run(&connection, &format!("SELECT x {}", numbers(300))).await.unwrap();
    assert_eq!((many.len(), elsewhere), (300, true));
}

#[tokio::test]
async fn a_short_query_sees_the_transaction_of_its_own_handle_only() {
    let folder = tempfile::tempdir().unwrap();
    let writer = handle(&folder);
    run(&writer, "BEGIN IMMEDIATE").await.unwrap();
    run(&writer, "INSERT INTO t VALUES (1)").await.unwrap();

    let (own, elsewhere) = run(&writer, "SELECT count(*) FROM t").await.unwrap();
    let pool = Arc::clone(&writer.session.lock().await.pool);
    let session = Session { pool, stopped: Arc::default(), lease: None };
    let other = Connection { session: Arc::new(Mutex::new(session)), ..writer.clone() };
    let (others, _) = run(&other, "SELECT count(*) FROM t").await.unwrap();

    assert_eq!((integer(&own), elsewhere), (1, false));
    assert_eq!(integer(&others), 0);
}

#[tokio::test]
async fn an_error_of_a_short_query_is_the_statements_own() {
    let folder = tempfile::tempdir().unwrap();

    let error = run(&handle(&folder), "SELECT * FROM nowhere").await.unwrap_err();

    assert!(matches!(error, Error::Io(text) if text.contains("nowhere")));
}

#[tokio::test]
async fn a_guest_that_is_gone_gets_no_answer() {
    let folder = tempfile::tempdir().unwrap();
    let connection = handle(&folder);
    connection.session.lock().await.stopped.store(true, Ordering::Relaxed);
    let endless = "SELECT max(x) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT x FROM c)";

    assert!(run(&connection, endless).await.is_err());
}
