"""A small convolutional net for 8 × 8 scans of handwritten digits."""

from torch import Tensor, nn


class DigitsNet(nn.Module):
    """Input [n, 1, 8, 8] in 0..1, output logits [n, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        )
        self.classify = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        return self.classify(self.features(image).mean((2, 3)))


def build() -> nn.Module:
    return DigitsNet()
