//! Input from strangers: refused with a message that names what breaks which rule, in bounded time and memory, with
//! nothing left behind; and for each case a benign twin that is accepted.

mod bounds;
mod context;
mod debian;
mod index;
mod inrelease;
mod lock;
mod secrets;
mod terminal;
mod toml;
mod wheel_bounds;
mod wheel_cases;
mod wheels;
