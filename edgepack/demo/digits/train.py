"""Train the net from scratch: python train.py digits.pt"""

import sys

import torch
from data import evaluation, training
from model import build
from torch.nn import functional as F


def train(epochs: int = 15) -> torch.nn.Module:
    torch.manual_seed(0)
    model = build().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for epoch in range(epochs):
        for x, y in training():
            optimizer.zero_grad()
            loss = F.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(y))
            loss.backward()
            optimizer.step()
        schedule.step()
        print(f"epoch {epoch + 1}/{epochs}: loss {loss.item():.4f}", file=sys.stderr)
    return model.eval()


if __name__ == "__main__":
    model = train()
    x, y = next(evaluation())
    with torch.no_grad():
        right = (model(torch.from_numpy(x)).argmax(1).numpy() == y).mean()
    print(f"top-1 on {len(y)} scans that it never saw: {right:.4f}", file=sys.stderr)
    torch.save(model.state_dict(), sys.argv[1])
