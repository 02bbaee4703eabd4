//! The secrets in `/config/<token>`: each lets one machine fetch one config, for a while.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::BootTime;
use crate::wire::AssetPath;
use crate::wire::MacAddr;

/// 128 random bits, written as 32 hexadecimal digits. Whoever knows it may read a config, so it
/// shows itself in a URL only ([`Token::to_url_part`]), never in a log.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(u128);

impl Token {
    /// Makes a token of random bytes.
    pub fn from_random(bytes: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(bytes))
    }

    /// Reads the last part of a URL.
    pub fn from_url_part(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u128::from_str_radix(text, 16).ok().map(Self))?
    }

    /// Writes the last part of a URL.
    pub fn to_url_part(self) -> String {
        format!("{:032x}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(secret)")
    }
}

/// What a token lets its holder fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Grant {
    /// The machine.
    pub machine: MacAddr,
    /// Its config.
    pub config: AssetPath,
}

/// The tokens that are valid.
#[derive(Debug, Default)]
pub struct Tokens {
    by_token: HashMap<Token, Issued>,
    /// To give a machine that asks again the token that it has.
    by_grant: HashMap<Grant, Token>,
}

#[derive(Debug)]
struct Issued {
    grant: Grant,
    /// Where the machine was when it got the token.
    address: IpAddr,
    expires: BootTime,
    fetches_left: u32,
}

impl Tokens {
    /// How long a token is valid: time for the slowest machine to load and start its kernel.
    pub const LIFETIME: Duration = Duration::from_secs(60 * 60);
    /// How often a token can be used. Talos asks again when a transfer breaks.
    pub const FETCHES: u32 = 10;
    /// The most tokens that are valid at one time.
    pub const CAPACITY: usize = 4096;

    /// The token for a grant, for the machine that is at this address. A machine that asks again while its token is valid gets that one,
    /// as good as new: a kernel that is already on its way may hold it. `fresh` is used
    /// otherwise.
    ///
    /// When the table is full the token that would expire first makes room.
    pub fn issue(&mut self, now: BootTime, grant: Grant, address: IpAddr, fresh: Token) -> Token {
        let token = self.by_grant.get(&grant).copied().filter(|token| self.is_valid(now, *token));
        if token.is_none() && self.by_token.len() >= Self::CAPACITY {
            let first =
                self.by_token.iter().min_by_key(|(token, issued)| (issued.expires, **token));
            if let Some(token) = first.map(|(token, _)| *token) {
                self.revoke(token);
            }
        }
        let token = token.unwrap_or(fresh);
        if let Some(stale) = self.by_grant.insert(grant.clone(), token)
            && stale != token
        {
            self.by_token.remove(&stale);
        }
        let expires = now + Self::LIFETIME;
        let fetches_left = Self::FETCHES;
        self.by_token.insert(token, Issued { grant, address, expires, fetches_left });
        token
    }

    /// Uses a token once. `None` when it is unknown, expired or used up, or when `is_holder` says
    /// of the machine and its address that somebody else asks: then nothing is used up. All four
    /// look the same and cost the same.
    #[must_use]
    pub fn redeem(
        &mut self,
        now: BootTime,
        token: Token,
        is_holder: impl FnOnce(MacAddr, IpAddr) -> bool,
    ) -> Option<Grant> {
        if !self.is_valid(now, token) {
            return None;
        }
        let issued = self.by_token.get_mut(&token)?;
        if !is_holder(issued.grant.machine, issued.address) {
            return None;
        }
        issued.fetches_left -= 1;
        Some(issued.grant.clone())
    }

    /// Undoes one use of a token whose config could not be served after all.
    pub fn give_back(&mut self, token: Token) {
        if let Some(issued) = self.by_token.get_mut(&token) {
            issued.fetches_left = Self::FETCHES.min(issued.fetches_left + 1);
        }
    }

    fn is_valid(&self, now: BootTime, token: Token) -> bool {
        let issued = self.by_token.get(&token);
        issued.is_some_and(|issued| now < issued.expires && issued.fetches_left > 0)
    }

    fn revoke(&mut self, token: Token) {
        if let Some(issued) = self.by_token.remove(&token) {
            self.by_grant.remove(&issued.grant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: BootTime = BootTime::BOOT;
    const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 9));

    fn anybody(_: MacAddr, _: IpAddr) -> bool {
        true
    }

    fn grant(n: usize) -> Grant {
        let [.., a, b] = n.to_be_bytes();
        let config = AssetPath::from_plain("worker.yaml").unwrap();
        Grant { machine: MacAddr([2, 0, 0, 0, a, b]), config }
    }

    fn token(n: u8) -> Token {
        Token::from_random([n; 16])
    }

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let url_part = token(0xa).to_url_part();
        assert_eq!(url_part, "0a".repeat(16));
        assert_eq!(Token::from_url_part(&url_part), Some(token(0xa)));
        for text in ["", "0a", &"0a".repeat(17), &"+1".repeat(16), &"é".repeat(16)] {
            assert_eq!(Token::from_url_part(text), None);
        }
        assert!(!format!("{:?}", token(0xa)).contains("0a"));
    }

    #[test]
    fn a_token_opens_its_own_config_for_a_while() {
        let mut tokens = Tokens::default();
        assert_eq!(tokens.issue(START, grant(1), HOME, token(1)), token(1));
        assert_eq!(tokens.redeem(START, token(1), anybody), Some(grant(1)));
        assert_eq!(tokens.redeem(START, token(2), anybody), None);
        assert_eq!(tokens.redeem(START + Tokens::LIFETIME, token(1), anybody), None);
    }

    #[test]
    fn a_use_that_failed_does_not_count() {
        let mut tokens = Tokens::default();
        let _ = tokens.issue(START, grant(1), HOME, token(1));
        for _ in 0..Tokens::FETCHES * 2 {
            assert_eq!(tokens.redeem(START, token(1), anybody), Some(grant(1)));
            tokens.give_back(token(1));
        }
        tokens.give_back(token(1));
        tokens.give_back(token(2));
        let uses = (0..20).filter(|_| tokens.redeem(START, token(1), anybody).is_some()).count();
        assert_eq!(uses, Tokens::FETCHES as usize);
    }

    #[test]
    fn somebody_else_gets_nothing_and_uses_nothing_up() {
        let mut tokens = Tokens::default();
        let _ = tokens.issue(START, grant(1), HOME, token(1));
        for _ in 0..Tokens::FETCHES + 1 {
            assert_eq!(tokens.redeem(START, token(1), |_, _| false), None);
        }
        let away = IpAddr::from([10, 0, 0, 8]);
        let _ = tokens.issue(START, grant(1), away, token(2));
        let is_holder = |machine, address| (machine, address) == (grant(1).machine, away);
        assert_eq!(tokens.redeem(START, token(1), is_holder), Some(grant(1)), "it moved");
    }

    #[test]
    fn a_token_is_used_up() {
        let mut tokens = Tokens::default();
        let _ = tokens.issue(START, grant(1), HOME, token(1));
        let uses = (0..20).filter(|_| tokens.redeem(START, token(1), anybody).is_some()).count();
        assert_eq!(uses, Tokens::FETCHES as usize);
        assert_eq!(tokens.issue(START, grant(1), HOME, token(2)), token(2), "asking again helps");
        assert_eq!(tokens.redeem(START, token(1), anybody), None);
        assert_eq!(tokens.redeem(START, token(2), anybody), Some(grant(1)));
    }

    #[test]
    fn asking_again_renews_the_same_token() {
        let mut tokens = Tokens::default();
        let _ = tokens.issue(START, grant(1), HOME, token(1));
        let later = START + Tokens::LIFETIME - Duration::from_secs(1);
        assert_eq!(tokens.issue(later, grant(1), HOME, token(2)), token(1));
        assert_eq!(tokens.redeem(START + Tokens::LIFETIME, token(1), anybody), Some(grant(1)));
        let expired = later + Tokens::LIFETIME;
        assert_eq!(tokens.issue(expired, grant(1), HOME, token(3)), token(3));
        assert_eq!(tokens.by_token.len(), 1);
    }

    #[test]
    fn the_table_is_bounded() {
        let mut tokens = Tokens::default();
        for n in 0..=Tokens::CAPACITY {
            let fresh = Token(n as u128);
            let _ = tokens.issue(START + Duration::from_millis(n as u64), grant(n), HOME, fresh);
        }
        assert_eq!(tokens.by_token.len(), Tokens::CAPACITY);
        assert_eq!(tokens.by_grant.len(), Tokens::CAPACITY);
        assert_eq!(tokens.redeem(START, Token(0), anybody), None);
        assert_eq!(tokens.redeem(START, Token(1), anybody), Some(grant(1)));
    }
}
