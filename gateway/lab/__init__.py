"""What people try and test with: the Realtime simulator, the robot caller, the demo, the bench."""
