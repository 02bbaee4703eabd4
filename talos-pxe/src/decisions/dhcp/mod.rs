//! DHCP: the server, the proxyDHCP server, the boot server and the client.

pub mod client;
