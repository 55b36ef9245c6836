//! What each profile says of a URL, as one table (T1).

use std::net::{IpAddr, SocketAddr};

use super::rules::Rules;
use super::{Class, Endpoint, EndpointPolicy, EndpointProfile, Refused};

/// URL, what its name resolves to, and the verdicts of `dev`, `prod` and `custom`: `+` called, `-` refused.
///
/// The server itself listens on 127.0.0.1:8080 and [::1]:8080. `custom` is [`custom`].
const TABLE: &str = "
https://example.com/done                 | 93.184.215.14                   | + + +
https://example.com                      | 93.184.215.14                   | + + +
https://EXAMPLE.com/Done?a=b&c=%20       | 93.184.215.14                   | + + +
https://example.com./done                | 93.184.215.14                   | + + +
https://example.com:8443/                | 93.184.215.14                   | + + -
https://example.com:8080/                | 93.184.215.14                   | + + +
http://example.com/                      | 93.184.215.14                   | + - -
http://example.com:443/                  | 93.184.215.14                   | + - -
https://bücher.example/                  | 93.184.215.14                   | + + +
https://xn--bcher-kva.example/           | 93.184.215.14                   | + + +
https://8.8.8.8/                         |                                 | + + +
http://8.8.8.8/                          |                                 | + - -
https://[2606:4700::1111]/               |                                 | + + +
http://[2606:4700::1111]/                |                                 | + - -
https://134744072/                       |                                 | + + +
https://example.com/                     | 2606:4700::1111                 | + + +
https://example.com/                     | 93.184.215.14,10.0.0.1          | + + +
https://example.com/                     | 169.254.169.254,93.184.215.14   | + + +
https://example.com/                     |                                 | - - -
https://localhost/                       | 127.0.0.1                       | + - -
http://localhost/                        | 127.0.0.1,::1                   | + - -
http://localhost:9000/                   | 127.0.0.1                       | + - -
http://localhost:8080/                   | 127.0.0.1                       | - - -
http://localhost:8080/                   | ::1                             | - - -
http://localhost:8080/                   | 127.0.0.1,::1                   | - - -
http://127.0.0.1:9000/                   |                                 | + - -
https://127.0.0.1/                       |                                 | + - -
http://127.0.0.1:8080/                   |                                 | - - -
https://127.0.0.1:8080/                  |                                 | - - -
http://127.1:8080/                       |                                 | - - -
http://0x7f000001:8080/                  |                                 | - - -
http://[::ffff:127.0.0.1]:8080/          |                                 | - - -
http://[::1]:8080/                       |                                 | - - -
http://127.0.0.2:8080/                   |                                 | + - -
http://127.255.255.255/                  |                                 | + - -
https://2130706433/                      |                                 | + - -
https://0177.0.0.1/                      |                                 | + - -
https://0x7f.1/                          |                                 | + - -
https://017700000001/                    |                                 | + - -
https://127.0.1/                         |                                 | + - -
https://[::1]/                           |                                 | + - -
https://[::ffff:127.0.0.1]/              |                                 | + - -
https://[::ffff:7f00:1]/                 |                                 | + - -
https://evil.example/                    | 127.0.0.1                       | + - -
https://evil.example/                    | ::1                             | + - -
https://evil.example/                    | ::ffff:127.0.0.1                | + - -
http://agent-service:8080/               | 172.18.0.3                      | + - +
http://Agent-Service.:8080/              | 172.18.0.3                      | + - +
http://agent-service:8080/               | 10.0.0.3                        | + - -
http://agent-service:9000/               | 172.18.0.3                      | + - -
http://other-service:8080/               | 172.18.0.3                      | + - -
https://other-service:8080/              | 172.18.0.3                      | + - +
http://agent-service:8080/               | 93.184.215.14                   | + - +
http://agent-service:8080/               | 172.32.0.1                      | + - +
http://agent-service:8080/               | 127.0.0.1                       | - - -
https://172.16.0.1/                      |                                 | + - +
https://172.31.255.255/                  |                                 | + - +
https://172.15.255.255/                  |                                 | + + +
https://172.32.0.0/                      |                                 | + + +
https://10.0.0.1/                        |                                 | + - -
https://10.255.255.255/                  |                                 | + - -
https://167772161/                       |                                 | + - -
https://012.0.0.1/                       |                                 | + - -
https://[::ffff:10.0.0.1]/               |                                 | + - -
https://192.168.1.1/                     |                                 | + - -
https://3232235777/                      |                                 | + - -
https://100.64.0.1/                      |                                 | + - -
https://100.127.255.255/                 |                                 | + - -
https://100.63.255.255/                  |                                 | + + +
https://100.128.0.0/                     |                                 | + + +
https://[fc00::1]/                       |                                 | + - -
https://[fdff:ffff::1]/                  |                                 | + - -
https://[fe00::1]/                       |                                 | + + +
https://intranet/                        | 10.1.2.3                        | + - -
https://intranet/                        | fd12:3456::1                    | + - -
http://169.254.169.254/latest/meta-data/ |                                 | - - -
https://169.254.169.254/                 |                                 | - - +
https://2852039166/                      |                                 | - - +
https://0xa9fea9fe/                      |                                 | - - +
https://0251.0376.0251.0376/             |                                 | - - +
https://[::ffff:169.254.169.254]/        |                                 | - - +
https://[::ffff:a9fe:a9fe]/              |                                 | - - +
https://metadata.example/                | 169.254.169.254                 | - - +
https://169.254.169.253/                 |                                 | - - -
https://169.254.0.0/                     |                                 | - - -
https://169.254.255.255/                 |                                 | - - -
https://100.100.100.200/                 |                                 | - - -
https://[fd00:ec2::254]/                 |                                 | - - -
https://[fd00:ec2::253]/                 |                                 | + - -
https://[fe80::1]/                       |                                 | - - -
https://[febf::1]/                       |                                 | - - -
https://[fec0::1]/                       |                                 | - - -
https://0.0.0.0/                         |                                 | - - -
https://0/                               |                                 | - - -
http://0.0.0.0:8080/                     |                                 | - - -
https://0.1.2.3/                         |                                 | - - -
https://[::]/                            |                                 | - - -
https://[::127.0.0.1]/                   |                                 | - - -
https://[::8.8.8.8]/                     |                                 | - - -
https://[::ffff:0:8.8.8.8]/              |                                 | - - -
https://[64:ff9b::127.0.0.1]/            |                                 | - - -
https://[64:ff9b::8.8.8.8]/              |                                 | - - -
https://[64:ff9b:1::1]/                  |                                 | - - -
https://[2002:7f00:1::]/                 |                                 | - - -
https://[2002:808:808::1]/               |                                 | - - -
https://[2001:0:4136:e378::1]/           |                                 | - - -
https://[2001:db8::1]/                   |                                 | - - -
https://[2001:2::1]/                     |                                 | - - -
https://[3fff::1]/                       |                                 | - - -
https://[5f00::1]/                       |                                 | - - -
https://[100::1]/                        |                                 | - - -
https://[ff02::1]/                       |                                 | - - -
https://[ff0e::1]/                       |                                 | - - -
https://224.0.0.1/                       |                                 | - - -
https://239.255.255.255/                 |                                 | - - -
https://240.0.0.1/                       |                                 | - - -
https://255.255.255.255/                 |                                 | - - -
https://4294967295/                      |                                 | - - -
https://192.0.0.1/                       |                                 | - - -
https://192.0.0.170/                     |                                 | - - -
https://192.0.1.1/                       |                                 | + + +
https://192.0.2.1/                       |                                 | - - -
https://192.88.99.1/                     |                                 | - - -
https://198.18.0.1/                      |                                 | - - -
https://198.19.255.255/                  |                                 | - - -
https://198.20.0.0/                      |                                 | + + +
https://198.51.100.1/                    |                                 | - - -
https://203.0.113.1/                     |                                 | - - -
https://evil.example/                    | 0.0.0.0                         | - - -
https://evil.example/                    | ::                              | - - -
https://evil.example/                    | fe80::1                         | - - -
https://evil.example/                    | 192.0.2.1,224.0.0.1             | - - -
https://evil.example/                    | 64:ff9b::a9fe:a9fe              | - - -
ftp://example.com/                       | 93.184.215.14                   | - - -
file:///etc/passwd                       | 93.184.215.14                   | - - -
gopher://example.com/                    | 93.184.215.14                   | - - -
javascript:alert(1)                      | 93.184.215.14                   | - - -
data:text/plain,x                        | 93.184.215.14                   | - - -
ws://example.com/                        | 93.184.215.14                   | - - -
unix:/run/docker.sock                    | 93.184.215.14                   | - - -
https://user@example.com/                | 93.184.215.14                   | - - -
https://user:pass@example.com/           | 93.184.215.14                   | - - -
https://:pass@example.com/               | 93.184.215.14                   | - - -
https://example.com@127.0.0.1/           |                                 | - - -
https://example.com:443@127.0.0.1/       |                                 | - - -
https://127.0.0.1#@example.com/          | 93.184.215.14                   | - - -
https://example.com/#fragment            | 93.184.215.14                   | - - -
https://example.com/#                    | 93.184.215.14                   | - - -
https://example.com:0/                   | 93.184.215.14                   | - - -
https://example.com:65536/               | 93.184.215.14                   | - - -
https://example.com:-1/                  | 93.184.215.14                   | - - -
https://example.com:x/                   | 93.184.215.14                   | - - -
https://                                 | 93.184.215.14                   | - - -
https:///                                | 93.184.215.14                   | - - -
https://./                               | 93.184.215.14                   | - - -
https://../                              | 93.184.215.14                   | - - -
https://a..b/                            | 93.184.215.14                   | - - -
https://.a/                              | 93.184.215.14                   | - - -
https://exa mple.com/                    | 93.184.215.14                   | - - -
https://exa%00mple.com/                  | 93.184.215.14                   | - - -
https://exa%23mple.com/                  | 93.184.215.14                   | - - -
https://256.0.0.1/                       | 93.184.215.14                   | - - -
https://1.2.3.4.5/                       | 93.184.215.14                   | - - -
https://0x/                              |                                 | - - -
https://[::1                             | 93.184.215.14                   | - - -
https://[::g]/                           | 93.184.215.14                   | - - -
https://[fe80::1%25eth0]/                | 93.184.215.14                   | - - -
https://１２７.0.0.1/                    |                                 | + - -
https://127。0。0。1/                    |                                 | + - -
https:\\\\127.0.0.1\\                    |                                 | + - -
https:127.0.0.1                          |                                 | + - -
/done                                    | 93.184.215.14                   | - - -
//example.com/                           | 93.184.215.14                   | - - -
example.com                              | 93.184.215.14                   | - - -
";

const NOT_LOCAL: fn(IpAddr) -> bool = |_| false;

fn address(text: &str) -> IpAddr {
    text.parse().expect("the sample is an address")
}

fn policy(profile: EndpointProfile) -> EndpointPolicy {
    EndpointPolicy { profile, ..EndpointPolicy::default() }
}

fn custom() -> EndpointPolicy {
    EndpointPolicy {
        allow_http_hosts: vec!["agent-service".into()],
        allow_cidrs: ["172.16.0.0/12", "169.254.169.254/32", "169.254.0.0/16"]
            .map(|range| range.parse().unwrap())
            .into(),
        allow_ports: vec![80, 443, 8080],
        ..policy(EndpointProfile::Custom)
    }
}

fn own() -> Vec<SocketAddr> {
    vec!["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()]
}

fn rules(policy: &EndpointPolicy) -> Rules {
    Rules::new(policy, true, own(), NOT_LOCAL)
}

fn decide(url: &str, resolved: &[IpAddr], rules: &Rules) -> Result<Vec<SocketAddr>, Refused> {
    rules.places(&Endpoint::parse(url)?, resolved)
}

#[test]
fn every_profile_says_of_every_url_what_the_table_says() {
    let profiles = [policy(EndpointProfile::Dev), policy(EndpointProfile::Prod), custom()].map(|policy| rules(&policy));
    let mut urls = 0;
    let mut wrong = Vec::new();
    for line in TABLE.lines().filter(|line| !line.is_empty()) {
        let [url, resolved, verdicts] = line.split('|').map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("three columns: {line}")
        };
        let resolved: Vec<IpAddr> = resolved.split(',').filter(|text| !text.is_empty()).map(address).collect();
        let given: Vec<&str> =
            profiles.iter().map(|rules| if decide(url, &resolved, rules).is_ok() { "+" } else { "-" }).collect();
        if given.join(" ") != verdicts {
            wrong.push(format!("{url} -> {resolved:?}: {given:?}, not {verdicts}"));
        }
        urls += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(urls >= 120, "{urls}");
}

#[test]
fn no_profile_opens_what_another_address_of_the_same_name_is_refused_for() {
    let resolved = ["10.0.0.1", "93.184.215.14", "::1", "169.254.169.254"].map(address);
    let places = decide("https://example.com/", &resolved, &rules(&policy(EndpointProfile::Prod)));
    assert_eq!(places, Ok(vec!["93.184.215.14:443".parse().unwrap()]));
    let places = decide("https://example.com/", &resolved, &rules(&policy(EndpointProfile::Dev)));
    assert_eq!(places.map(|places| places.len()), Ok(3), "all but the metadata service");
}

#[test]
fn a_literal_address_is_not_asked_of_a_resolver() {
    let lie = ["93.184.215.14"].map(address);
    assert_eq!(
        decide("https://10.0.0.1/", &lie, &rules(&policy(EndpointProfile::Prod))),
        Err(Refused::Address { class: Class::Private })
    );
}

#[test]
fn what_is_never_called_opens_for_one_exact_address_alone() {
    let with = |range: &str| {
        let allow_cidrs = vec![range.parse().unwrap()];
        rules(&EndpointPolicy { allow_cidrs, ..policy(EndpointProfile::Custom) })
    };
    let metadata = "https://169.254.169.254/";
    assert!(decide(metadata, &[], &with("169.254.169.254/32")).is_ok());
    for wider in ["169.254.169.254/31", "169.254.0.0/16", "0.0.0.0/0", "::/0"] {
        assert!(decide(metadata, &[], &with(wider)).is_err(), "{wider}");
    }
    assert!(decide("https://[fd00:ec2::254]/", &[], &with("fd00:ec2::254/128")).is_ok());
    assert!(decide("https://[fd00:ec2::254]/", &[], &with("fd00::/8")).is_err());
    assert!(decide("https://127.0.0.1/", &[], &with("0.0.0.0/0")).is_ok(), "what is not of that kind opens by range");
}

#[test]
fn lists_of_hosts_and_ports_narrow() {
    let policy = EndpointPolicy {
        allow_hosts: vec!["hooks.example.com".into(), "*.hooks.example.com".into(), "8.8.8.8".into()],
        ..policy(EndpointProfile::Custom)
    };
    let rules = rules(&policy);
    let public = ["93.184.215.14"].map(address);
    for url in
        ["https://hooks.example.com/", "https://a.hooks.example.com./", "https://8.8.8.8/", "https://0x08080808/"]
    {
        assert!(decide(url, &public, &rules).is_ok(), "{url}");
    }
    for url in [
        "https://example.com/",
        "https://evilhooks.example.com/",
        "https://hooks.example.com.evil.test/",
        "https://1.1.1.1/",
    ] {
        assert_eq!(decide(url, &public, &rules), Err(Refused::HostNotListed), "{url}");
    }
}

#[test]
fn auto_is_dev_on_loopback_alone() {
    let auto = policy(EndpointProfile::Auto);
    let guard = super::Guard::new(auto.clone(), false);
    let is_dev = |guard: &super::Guard| decide("http://127.0.0.1:9000/", &[], &guard.rules()).is_ok();
    assert!(!is_dev(&guard), "nobody knows where a host listens that mounts the router");
    guard.listens("127.0.0.1:8080".parse().unwrap());
    assert!(is_dev(&guard));
    guard.listens("[::1]:8080".parse().unwrap());
    assert!(is_dev(&guard));
    guard.listens("192.168.1.5:8080".parse().unwrap());
    assert!(!is_dev(&guard), "one listener that others reach");
    let behind_proxy = super::Guard::new(auto, true);
    behind_proxy.listens("127.0.0.1:8080".parse().unwrap());
    assert!(!is_dev(&behind_proxy), "a proxy makes it reachable");
}

#[test]
fn a_listener_on_the_wildcard_answers_on_every_address_of_this_machine() {
    let dev = policy(EndpointProfile::Dev);
    let is_local: fn(IpAddr) -> bool = |asked| asked == address("192.168.1.5") || asked == address("2606:4700::5");
    let rules = Rules::new(&dev, true, vec!["0.0.0.0:8080".parse().unwrap(), "[::]:8080".parse().unwrap()], is_local);
    for url in
        ["http://127.0.0.1:8080/", "http://127.9.9.9:8080/", "http://192.168.1.5:8080/", "http://[2606:4700::5]:8080/"]
    {
        assert_eq!(decide(url, &[], &rules), Err(Refused::OwnListener), "{url}");
    }
    for url in ["http://127.0.0.1:8081/", "http://192.168.1.6:8080/", "http://[2606:4700::6]:8080/"] {
        assert!(decide(url, &[], &rules).is_ok(), "{url}");
    }
    let guard = super::Guard::new(dev, false);
    guard.listens("0.0.0.0:8080".parse().unwrap());
    assert_eq!(decide("http://127.0.0.1:8080/", &[], &guard.rules()), Err(Refused::OwnListener));
}

#[test]
fn the_form_of_a_url_is_named_by_what_is_wrong_with_it() {
    let long = format!("https://example.com/{}", "x".repeat(2048));
    for (url, why) in [
        (long.as_str(), Refused::TooLong),
        ("example.com", Refused::NotAUrl),
        ("ftp://example.com/", Refused::Scheme),
        ("https://user@example.com/", Refused::UserInfo),
        ("https://example.com/#x", Refused::Fragment),
        ("https://", Refused::Host),
        ("https://a..b/", Refused::Host),
        ("https://example.com:0/", Refused::Port),
        ("https://example.com:70000/", Refused::Port),
    ] {
        assert_eq!(Endpoint::parse(url), Err(why), "{url}");
    }
    let exact = format!("https://example.com/{}", "x".repeat(2048 - 20));
    assert!(Endpoint::parse(&exact).is_ok());
    assert_eq!(Endpoint::parse("https://Example.com.:443/a?b").unwrap().as_str(), "https://example.com/a?b");
}

#[test]
fn path_and_query_are_not_printed() {
    let shown = format!("{:?}", Endpoint::parse("https://example.com/canary?canary").unwrap());
    assert_eq!(shown, "Endpoint(\"https://example.com:443\")");
}
