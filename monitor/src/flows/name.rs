//! What a connection is called: the host's boot and the socket's cookie. Made for every record, so put
//! together without the formatter.

/// `BOOT-COOKIE`, the cookie in hexadecimal.
pub fn of(boot_id: &str, cookie: u64) -> String {
    let digits = (u64::BITS - cookie.leading_zeros()).div_ceil(4).max(1);
    let mut name = String::with_capacity(boot_id.len() + 1 + digits as usize);
    name.push_str(boot_id);
    name.push('-');
    let digit = |at: u32| char::from_digit((cookie >> (4 * at) & 0xf) as u32, 16);
    name.extend((0..digits).rev().filter_map(digit));
    name
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn as_the_formatter_has_it() {
        for cookie in [0, 1, 0xf, 0x10, 0x1f, 0x100, 0x0123_4567_89ab_cdef, u64::MAX] {
            assert_eq!(of("b00t", cookie), format!("b00t-{cookie:x}"));
        }
    }
}
