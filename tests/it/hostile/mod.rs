//! What hostile servers and files can do to the program as a user meets it: nothing but a message.

mod wheels;
