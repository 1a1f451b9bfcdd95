use super::*;

fn read(flags: &Flags, vars: &[(&str, &str)]) -> Result<Config, ConfigError> {
    Config::from_vars(flags, &Environment::default(), |name| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
}

#[test]
fn nothing_set_is_a_local_stack() {
    let config = read(&Flags::default(), &[]).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
    assert_eq!(config.ide_listen, None, "hosted IDEs need no listener that they would share");
    assert_eq!(config.admin_listen.to_string(), "127.0.0.1:8082");
    assert_eq!(config.artifact_listen.to_string(), "127.0.0.1:8083");
    assert!(config.ide.return_hosted_url);
    assert_eq!(config.node.ports, PortRange { first: 50_000, last: 50_999 });
}

#[test]
fn a_flag_wins_over_its_variable() {
    let flags = Flags::default().with("--listen", "ZLH_LISTEN", Some("127.0.0.1:0".to_owned()));

    let config = read(&flags, &[("ZLH_LISTEN", "10.0.0.1:80"), ("PORT", "4000")]).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:0");
}

#[test]
fn a_port_alone_moves_the_public_listener() {
    let config = read(&Flags::default(), &[("PORT", "4000")]).unwrap();

    assert_eq!(config.listen.to_string(), "127.0.0.1:4000");
}

#[test]
fn a_wrong_setting_is_named_and_its_value_is_not_shown() {
    for (name, value) in [
        ("ZLH_LISTEN", "8080"),
        ("PORT", "http"),
        ("ZLH_PORT_RANGE", "51000-50000"),
        ("ZLH_PORT_RANGE", "80-90"),
        ("ZLH_PORT_RANGE", "50000-65535"),
        ("DEV_IDE_HOST_SUFFIX", "https://ide.example.com"),
        ("DEV_IDE_HOST_SUFFIX", ".example.com"),
        ("DEV_IDE_PUBLIC_SCHEME", "ws"),
        ("DEV_IDE_RETURN_HOSTED_URL", "maybe"),
        ("API_AUTH_TTL_SECONDS", "1h"),
        ("API_AUTH_IDE_TTL_SECONDS", "0"),
        ("ZLH_NODE_DRIVER", "docker"),
        ("ZLH_BOOTSTRAP_PASSWORD", "short"),
        ("ZLH_ALLOWED_ORIGINS", "https://a.example, b.example"),
        ("ZLH_ALLOWED_ORIGINS", "https://a.example/"),
        ("ZLH_IDE_PUBLIC_URL", "ide.example.com"),
    ] {
        let error = read(&Flags::default(), &[(name, value)]).expect_err(name);

        assert_eq!(error.setting, name);
        assert!(error.to_string().starts_with(&format!("`{name}` is wrong")), "{error}");
    }
}

#[test]
fn the_listener_of_tunnelled_ides_is_there_when_it_is_needed() {
    let listener = |vars: &[(&str, &str)]| {
        let read = read(&Flags::default(), vars);
        read.map(|config| config.ide_listen.map(|address| address.to_string()))
            .map_err(|e| e.setting)
    };
    let tunnel = ("DEV_IDE_RETURN_HOSTED_URL", "false");
    let (off, on) = (("ZLH_IDE_LISTEN", "off"), ("ZLH_IDE_LISTEN", "127.0.0.1:9000"));

    assert_eq!(listener(&[on]), Ok(Some("127.0.0.1:9000".to_owned())));
    assert_eq!(listener(&[off]), Ok(None));
    assert_eq!(listener(&[tunnel]), Ok(Some("127.0.0.1:8081".to_owned())));
    assert_eq!(listener(&[tunnel, off]), Err("ZLH_IDE_LISTEN".to_owned()));
    let elsewhere = ("ZLH_IDE_PUBLIC_URL", "https://ides.example.com");
    assert_eq!(listener(&[tunnel, off, elsewhere]), Ok(None));
}

#[test]
fn a_wrong_log_setting_is_named() {
    let read = |name: &str, value: &str| {
        LogSettings::from_vars(|wanted| (wanted == name).then(|| value.to_owned()))
    };

    assert!(!read("ZLH_LOG_FORMAT", "text").unwrap().json);
    assert!(read("ZLH_LOG_FORMAT", "json").unwrap().json);
    assert_eq!(
        read("ZLH_LOG", "warn,zlh_host_proxy=debug").unwrap().filter.to_string(),
        "zlh_host_proxy=debug,warn"
    );
    assert_eq!(read("ZLH_LOG_FORMAT", "xml").unwrap_err().setting, "ZLH_LOG_FORMAT");
    assert_eq!(read("ZLH_LOG", "zlh=loud").unwrap_err().setting, "ZLH_LOG");
}

#[test]
fn a_wrong_flag_is_named_as_a_flag() {
    let flags = Flags::default().with("--ide-listen", "ZLH_IDE_LISTEN", Some("x".to_owned()));

    assert_eq!(read(&flags, &[]).expect_err("wrong").setting, "--ide-listen");
}
