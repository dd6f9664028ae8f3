//! What hostile servers and files can do to the program as a user meets it: nothing but a message.

mod debian;
mod index;
mod secrets;
mod wheel_bounds;
mod wheel_cases;
mod wheels;
