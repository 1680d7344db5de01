"""Factor videos: clips whose causes are known as whole numbers, of what stands there and of how it moves."""
