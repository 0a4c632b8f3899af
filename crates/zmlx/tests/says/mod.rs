//! What a call says that is refused.

use candle_core::Result;

/// It is refused, with these words.
#[track_caller]
pub fn says<T>(result: Result<T>, message: &str) {
    match result {
        Ok(_) => panic!("expected `{message}`"),
        // candle may write a backtrace behind it
        Err(e) => assert_eq!(e.to_string().lines().next(), Some(message)),
    }
}
