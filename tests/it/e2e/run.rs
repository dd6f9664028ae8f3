//! The reference images in the sandbox, as root and as an ordinary user.

use crate::sandbox::{Host, Who, view};
use crate::support::skip::or_skip;

#[test]
fn sklearn_fits() {
    for host in or_skip!("sklearn in the sandbox", Host::both("sklearn")) {
        let program = "from sklearn.linear_model import LinearRegression as L
print(L().fit([[0], [1], [2]], [1, 3, 5]).predict([[10]]).round(3))";
        assert_eq!(host.python(&[], program).expect(0).stdout().trim(), "[21.]");
    }
}

#[test]
fn sklearn_is_what_runc_shows() {
    let hosts = or_skip!("sklearn in the sandbox", Host::both("sklearn"));
    or_skip!("what runc shows", view::is_what_runc_shows(&hosts));
}

/// Four worker processes that hand their batches over in `/dev/shm`.
const LOADER: &str = "import torch
from torch.utils.data import DataLoader, TensorDataset
print(torch.ones(2) @ torch.ones(2))
data = TensorDataset(torch.ones(4000, 1000))
loader = DataLoader(data, batch_size=64, num_workers=4, multiprocessing_context='fork')
print(sum(batch[0].sum().item() for batch in loader))";

fn torch(who: Who) {
    let host = or_skip!("torch in the sandbox", Host::alone(who, "torch"));
    let out = host.python(&["--shm-size", "256m"], LOADER).expect(0);
    assert_eq!(out.stdout().trim(), "tensor(2.)\n4000000.0");
}

#[test]
fn torch_as_root() {
    torch(Who::Root);
}

#[test]
fn torch_as_an_ordinary_user() {
    torch(Who::User);
}
