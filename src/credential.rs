//! Credentials: who asks, whom, for what, and for how long the answer is good.
