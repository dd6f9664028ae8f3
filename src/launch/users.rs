//! The user that a process runs as, by an image's `/etc/passwd` and `/etc/group` (passwd(5), group(5)).

/// The content of the image's files; empty where it has none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Accounts<'a> {
    pub passwd: &'a str,
    pub group: &'a str,
}

/// Who it is, in numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Groups that `/etc/group` lists the user in.
    pub groups: Vec<u32>,
    /// `/` where the image does not say.
    pub home: String,
    pub name: Option<String>,
}

/// Why there is no such user.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    #[error("the image has no user `{0}`")]
    User(String),
    #[error("the image has no group `{0}`")]
    Group(String),
}

impl Accounts<'_> {
    /// `USER`, `UID`, `USER:GROUP`, `UID:GID`; empty is root. As the OCI image specification has it, a number need not be
    /// listed; its group is 0 then.
    pub fn find(&self, wanted: &str) -> Result<User, UserError> {
        let (user, group) =
            wanted.split_once(':').map_or((wanted, None), |(user, group)| (user, Some(group)));
        let user = if user.is_empty() { "0" } else { user };
        let number = user.parse::<u32>().ok();
        let listed = self.users().find(|listed| match number {
            Some(uid) => listed.uid == uid,
            None => listed.name.as_deref() == Some(user),
        });
        let mut found = match (listed, number) {
            (Some(listed), _) => listed,
            (None, Some(uid)) => User { uid, gid: 0, groups: Vec::new(), home: "/".to_owned(), name: None },
            (None, None) => return Err(UserError::User(user.to_owned())),
        };
        match group.filter(|group| !group.is_empty()) {
            Some(group) => found.gid = self.group(group)?,
            None => {
                let listed =
                    |members: &str| members.split(',').any(|member| Some(member) == found.name.as_deref());
                let groups = self.groups().filter(|(.., members)| listed(members)).map(|(_, gid, _)| gid);
                found.groups = groups.filter(|gid| *gid != found.gid).collect();
            }
        }
        Ok(found)
    }

    fn group(&self, wanted: &str) -> Result<u32, UserError> {
        let number = wanted.parse().ok();
        let listed = self.groups().find(|(name, gid, _)| *name == wanted || Some(*gid) == number);
        listed.map(|(_, gid, _)| gid).or(number).ok_or_else(|| UserError::Group(wanted.to_owned()))
    }

    /// Lines that are none are passed over, as libc does.
    fn users(&self) -> impl Iterator<Item = User> {
        self.passwd.lines().filter_map(|line| {
            let [name, _, uid, gid, _, home, ..] = line.split(':').collect::<Vec<_>>()[..] else {
                return None;
            };
            Some(User {
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                groups: Vec::new(),
                home: if home.is_empty() { "/" } else { home }.to_owned(),
                name: Some(name.to_owned()),
            })
        })
    }

    fn groups(&self) -> impl Iterator<Item = (&str, u32, &str)> {
        self.group.lines().filter_map(|line| {
            let mut parts = line.split(':');
            let (name, _, gid) = (parts.next()?, parts.next()?, parts.next()?);
            Some((name, gid.parse().ok()?, parts.next().unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: Accounts<'_> = Accounts {
        passwd: "root:x:0:0:root:/root:/bin/sh\nbroken\nann:x:1000:100:Ann:/home/ann:/bin/sh\nnobody:x:65534:65534::/:\n",
        group: "root:x:0:\nusers:x:100:\nvideo:x:44:ann,bob\nrender:x:105:bob,ann\n",
    };

    fn find(wanted: &str) -> Result<(u32, u32, Vec<u32>, String), UserError> {
        IMAGE.find(wanted).map(|user| (user.uid, user.gid, user.groups, user.home))
    }

    #[test]
    fn users_by_name_and_number() {
        assert_eq!(find(""), Ok((0, 0, vec![], "/root".into())));
        assert_eq!(find("ann"), Ok((1000, 100, vec![44, 105], "/home/ann".into())));
        assert_eq!(find("1000"), find("ann"));
        assert_eq!(find("ann:video"), Ok((1000, 44, vec![], "/home/ann".into())));
        assert_eq!(find("7:8"), Ok((7, 8, vec![], "/".into())));
        assert_eq!(find("7"), Ok((7, 0, vec![], "/".into())));
        assert_eq!(find(":users"), Ok((0, 100, vec![], "/root".into())));
        assert_eq!(find("eve"), Err(UserError::User("eve".into())));
        assert_eq!(find("ann:wheel"), Err(UserError::Group("wheel".into())));
    }
}
